"""Reads the four IDX files in data/raw. Writes data/normalized/: images float32 [n, 28, 28, 1] in [-1, 1] and labels uint8 [n].

The arrays are .npy files that `numpy.load(..., mmap_mode="r")` maps. A file that is not what MNIST's should be is refused.
"""

import io
from pathlib import Path

import numpy as np

from gan.datasets import idx
from gan.datasets.params import NormalizeParams
from gan.errors import DataError
from gan.files import replacing_folder
from gan.images import CLASSES, IMAGE_SHAPE, to_unit_range
from gan.params import PARAMS, read_section
from stages.command import run_as_command

RAW = Path("data/raw")
NORMALIZED = Path("data/normalized")
# small enough for the conversion's intermediate arrays to stay in the processor's cache
BLOCK_IMAGES = 500


def main():
    params = read_section(PARAMS, "normalize", NormalizeParams)
    with replacing_folder(NORMALIZED) as folder:
        for half, raw_half, count in (("train", "train", params.train_count), ("test", "t10k", params.test_count)):
            pixels, labels = read_half(raw_half, count)
            write_images(folder / f"{half}_images.npy", pixels)
            (folder / f"{half}_labels.npy").write_bytes(npy(labels))


def read_half(name, count):
    """The pixels uint8 [count, 28, 28] and labels uint8 [count] of one half of the raw data; `name` is "train" or "t10k"."""
    try:
        pixels = idx.read(RAW / f"{name}-images-idx3-ubyte", shape=(count, *IMAGE_SHAPE[:2]))
        labels = idx.read_labels(RAW / f"{name}-labels-idx1-ubyte", count=count, classes=CLASSES)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing; run `dvc repro fetch`") from None
    return pixels, labels


def write_images(path, pixels):
    """Write pixels uint8 [n, h, w] to the .npy file at `path` as images float32 [n, h, w, 1] in [-1, 1], block by block.

    Never holds more than a block of the float images. (Writing through a memory map would turn a full disk into a SIGBUS, and
    `tofile` into an error that does not say what is wrong.)
    """
    header = {"descr": "<f4", "fortran_order": False, "shape": (*pixels.shape, 1)}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(pixels), BLOCK_IMAGES):
            file.write(to_unit_range(pixels[start : start + BLOCK_IMAGES]).astype("<f4", copy=False))


def npy(array):
    """An array as the bytes of a .npy file."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


if __name__ == "__main__":
    run_as_command(main)
