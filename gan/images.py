"""Conversions between the stored bytes of an image and the range that the networks work in, and tiling for display.

The only place where the number 127.5 stands, and the shape and the number of classes of MNIST: everybody else imports them.
"""

import numpy as np

HALF_RANGE = 127.5
IMAGE_SHAPE = (28, 28, 1)
CLASSES = 10  # the digits 0 to 9


def to_unit_range(pixels):
    """Map pixels uint8 [...] in [0, 255] to float32 [...] in [-1, 1]: ``x / 127.5 - 1``."""
    if pixels.dtype != np.uint8:
        raise TypeError(f"expected uint8 pixels, got {pixels.dtype}")
    return pixels.astype(np.float32) / np.float32(HALF_RANGE) - np.float32(1)


def to_uint8(images):
    """Map images float32 [...] in [-1, 1] to uint8 [...] in [0, 255], rounding to nearest; the exact inverse of `to_unit_range`.

    Values outside the range are clipped. Raises ValueError on NaN, which has no gray value.
    """
    if np.isnan(images).any():
        raise ValueError("expected finite images, got NaN")
    scaled = (images.astype(np.float32) + np.float32(1)) * np.float32(HALF_RANGE)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def tile(images, *, columns):
    """Lay images uint8 [n, h, w] or [n, h, w, 1] out row by row: uint8 [rows * h, columns * w]; missing cells are black."""
    images = images.reshape(images.shape[:3])
    count, height, width = images.shape
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, height, width), np.uint8)
    cells[:count] = images
    return cells.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def enlarge(pixels, scale):
    """Make each pixel of a picture uint8 [h, w] a square of `scale`: uint8 [h * scale, w * scale]."""
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)
