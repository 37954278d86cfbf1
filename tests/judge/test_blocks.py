"""Blocks of work: in order, side by side, one thread each, and never a different result."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from gan.judge.blocks import BLOCK_ROWS, rows_in_blocks, side_by_side
from gan.judge.frechet import GroupedMoments
from gan.judge.kernel import GroupedKernel
from gan.judge.neighbours import nearest_squared_distances, neighbour_radii


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.mark.parametrize("count", [0, 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS])
def test_blocks_cover_every_row_once(count):
    rows = np.arange(count)
    np.testing.assert_array_equal(np.concatenate([rows[block] for block in rows_in_blocks(count)] or [rows]), rows)


def test_as_many_blocks_run_at_a_time_as_there_are_threads_and_come_in_order():
    both_are_here = threading.Barrier(2, timeout=60)

    def meet(block):
        both_are_here.wait()
        return block, threading.get_ident()

    with threadpool_limits(2):
        blocks, threads = zip(*side_by_side(meet, range(20)), strict=True)
    assert blocks == tuple(range(20))
    assert len(set(threads)) == 2


def test_a_block_is_computed_by_one_thread_and_afterwards_there_are_as_many_as_before():
    with threadpool_limits(2):
        assert side_by_side(lambda block: blas_threads(), range(3)) == [{1}] * 3
        assert blas_threads() == {2}


def test_an_error_in_a_block_is_raised_and_the_threads_come_back():
    def fail(block):
        raise ValueError(f"block {block}")

    with threadpool_limits(2):
        with pytest.raises(ValueError, match="block 0"):
            side_by_side(fail, range(3))
        assert blas_threads() == {2}


def test_no_result_depends_on_the_number_of_threads():
    random = np.random.default_rng(0)
    features = random.standard_normal((1700, 64), np.float32)
    images = random.uniform(-1, 1, (1300, 28, 28, 1)).astype(np.float32)
    groups = [features[group::20] for group in range(20)]

    def results():
        kernel, moments = GroupedKernel(groups, features[::-1]), GroupedMoments(groups)
        arrays = [neighbour_radii(features, 5), nearest_squared_distances(images[:600], images[600:])]
        arrays += [np.array([kernel.mean_within([0, 3]), kernel.mean_across([1])]), moments.products, moments.of([2, 5])[1]]
        return [array.tobytes() for array in arrays]

    with threadpool_limits(1):
        of_one = results()
    for threads in (2, 3):
        with threadpool_limits(threads):
            assert results() == of_one
