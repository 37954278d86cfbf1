"""Reading .npy files that may be missing, damaged or not what they should be."""

import numpy as np

from gan.errors import DataError


def load_images(path, *, mmap=False):
    """The images float32 [n, 28, 28, 1] in the .npy file at `path`, mapped instead of read if `mmap`. Raises DataError."""
    images = _load(path, "r" if mmap else None)
    if images.dtype != np.float32 or images.shape[1:] != (28, 28, 1) or len(images) == 0:
        raise DataError(f"{path}: expected images float32 [n, 28, 28, 1], got {images.dtype} {list(images.shape)}")
    return images


def load_labels(path, *, count):
    """The labels uint8 [count] in 0..9 in the .npy file at `path`. Raises DataError."""
    labels = _load(path, None)
    if labels.dtype != np.uint8 or labels.shape != (count,) or labels.max() > 9:
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
