"""Work on large arrays, cut into blocks that are computed side by side."""

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy  # noqa: F401  # brings the linear algebra that is looked for below
from threadpoolctl import ThreadpoolController

BLOCK_ROWS = 500


def rows_in_blocks(count):
    """Slices that cover the rows 0 ... count - 1, BLOCK_ROWS at a time."""
    return [slice(start, start + BLOCK_ROWS) for start in range(0, count, BLOCK_ROWS)]


def side_by_side(function, blocks):
    """[function(block) for block in blocks], as many at a time as NumPy's linear algebra has threads.

    Each block is computed by one thread: it is too small to be shared among several, which wait for each other, on a busy machine
    for longer than they compute. What the blocks are depends on no number of threads, so neither do results.
    """
    libraries = _linear_algebra()
    threads = max((library["num_threads"] for library in libraries.info()), default=1)
    with libraries.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, blocks))


@functools.cache
def _linear_algebra():
    return ThreadpoolController().select(user_api="blas")
