"""Reading IDX, the format of the MNIST files, and refusing whatever is not exactly the expected array.

The format (LeCun, Cortes, Burges, "The MNIST database of handwritten digits"): two zero bytes, one byte for the element
type (8: unsigned bytes), one byte for the number of dimensions, each dimension as a big-endian 32-bit integer, then the
elements in C order, to the end of the file.
"""

import math
import struct

import numpy as np

from gan.errors import DataError

UNSIGNED_BYTE = 8


def read(path, *, shape):
    """The array in the IDX file at `path`: uint8 with exactly the given `shape`, read-only, memory-mapped.

    Raises DataError in one line if the file has another type, another shape, too few or too many bytes.
    """
    header_bytes = 4 + 4 * len(shape)
    with open(path, "rb") as file:
        header = file.read(header_bytes)
        file_bytes = file.seek(0, 2)
    expected_magic = struct.pack(">HBB", 0, UNSIGNED_BYTE, len(shape))
    if header[:4] != expected_magic:
        raise DataError(
            f"{path}: not an IDX file of unsigned bytes in {len(shape)} dimensions: "
            f"expected the magic number {expected_magic.hex()}, got {header[:4].hex() or 'an empty file'}"
        )
    if len(header) < header_bytes:
        raise DataError(f"{path}: truncated: expected a header of {header_bytes} bytes, got {len(header)} bytes in all")
    found_shape = struct.unpack_from(f">{len(shape)}I", header, 4)
    if found_shape != tuple(shape):
        raise DataError(f"{path}: expected the shape {list(shape)}, got {list(found_shape)}")
    expected_bytes = header_bytes + math.prod(shape)
    if file_bytes != expected_bytes:
        fault = "truncated" if file_bytes < expected_bytes else "over-long"
        raise DataError(f"{path}: {fault}: expected {expected_bytes} bytes, got {file_bytes}")
    return np.memmap(path, np.uint8, mode="r", offset=header_bytes, shape=tuple(shape))


def read_labels(path, *, count, classes):
    """The labels in the IDX file at `path`: uint8 [count] in [0, classes). Raises DataError in one line, as `read` does."""
    labels = read(path, shape=(count,))
    wrong = np.flatnonzero(labels >= classes)
    if wrong.size:
        raise DataError(f"{path}: expected labels from 0 to {classes - 1}, got {labels[wrong[0]]} at index {wrong[0]}")
    return labels
