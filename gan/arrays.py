"""Reading .npy files that may be missing, damaged or not what they should be."""

import numpy as np

from gan.errors import DataError
from gan.images import CLASSES, IMAGE_SHAPE, to_uint8

_BLOCK_IMAGES = 2000


def load_images(path, *, mmap=False):
    """The images float32 [n, 28, 28, 1] in the .npy file at `path`, mapped instead of read if `mmap`. Raises DataError."""
    images = _load(path, "r" if mmap else None)
    if images.dtype != np.float32 or images.shape[1:] != IMAGE_SHAPE or len(images) == 0:
        raise DataError(f"{path}: expected images float32 [n, 28, 28, 1], got {images.dtype} {list(images.shape)}")
    return images


def load_pixels(path):
    """The images in the .npy file at `path`, which `load_images` reads as floats, as uint8 [n, 28, 28, 1]. Raises DataError.

    Read piece by piece: bytes take a quarter of the floats' memory, and pages of a mapped file would count as ours.
    """
    try:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            if fortran_order or dtype != np.float32 or shape[1:] != IMAGE_SHAPE or shape[0] == 0:
                raise DataError(f"{path}: expected float32 [n, 28, 28, 1], got {dtype} {list(shape)}")
            pixels = np.empty(shape, np.uint8)
            for start in range(0, len(pixels), _BLOCK_IMAGES):
                piece = pixels[start : start + _BLOCK_IMAGES]
                piece[:] = to_uint8(np.fromfile(file, np.float32, piece.size).reshape(piece.shape))
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run `dvc repro normalize`") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); run `dvc repro --force normalize`") from None
    return pixels


def load_labels(path, *, count):
    """The labels uint8 [count] in 0..9 in the .npy file at `path`. Raises DataError."""
    labels = _load(path, None)
    if labels.dtype != np.uint8 or labels.shape != (count,) or labels.max() >= CLASSES:
        raise DataError(f"{path}: expected {count} labels uint8 in 0..9, one an image, got {labels.dtype} {list(labels.shape)}")
    return labels


def _load(path, mmap_mode):
    try:
        array = np.load(path, mmap_mode=mmap_mode)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `dvc repro` makes it") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable array: {' '.join(str(error).split())}") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: expected one array, got an archive")
    return array
