"""What two generators make of the same latents, and how far apart the two are, pixel by pixel."""

from dataclasses import dataclass

import numpy as np

from gan.generators import inputs_of
from gan.pages.pictures import grid, sample

_GAP = 8  # white pixels between two pictures of a row
_COLUMNS = 10
_ROWS = 10  # as many as there are digits, so that a generator without classes makes as many images as one with them


@dataclass(frozen=True)
class BothDrawn:
    """Grids uint8 [h, w], one pixel a pixel, of two generators."""

    old: np.ndarray
    new: np.ndarray
    difference: np.ndarray | None  # |new - old|; None where the latents are not the same ones
    why_not: str  # one sentence that says why there is no difference, or ""


def draw_both(old, new, *, seed):
    """Draw 100 images with each of two Keras models, in a grid of ten columns, from the same standard-normal latents if possible.

    A class-conditional generator gives a row for each digit. Raises DataError as `gan.pages.pictures.sample` does.
    """
    inputs = inputs_of(old), inputs_of(new)
    images = [sample(generator, rows=_ROWS, columns=_COLUMNS, seed=seed) for generator in (old, new)]
    why_not = _why_not_the_same(*inputs)
    if not why_not and images[0].shape != images[1].shape:
        why_not = f"Their images are not of the same shape: {_shape(images[0])} and {_shape(images[1])}."
    grids = [grid(one, columns=_COLUMNS, scale=1) for one in images]
    return BothDrawn(*grids, None if why_not else difference(*grids), why_not)


def difference(old, new):
    """|new - old| of grays uint8 [h, w]: uint8 [h, w], 0 where they are the same."""
    return np.abs(new.astype(np.int16) - old).astype(np.uint8)


def in_a_row(pictures):
    """Grays uint8 [h, w] beside each other with white between them: uint8 [h of the highest, all widths and gaps]."""
    height = max(picture.shape[0] for picture in pictures)
    padded = [np.pad(one, ((0, height - one.shape[0]), (0, _GAP)), constant_values=255) for one in pictures]
    return np.hstack(padded)[:, :-_GAP]


def _why_not_the_same(old, new):
    if old.latent_dim != new.latent_dim:
        return f"Their latents are not the same: {old.latent_dim} and {new.latent_dim} numbers an image."
    if old.conditional != new.conditional:
        return "Only one of them is class-conditional, so their inputs are not the same."
    return ""


def _shape(images):
    return " x ".join(map(str, images.shape[1:3]))
