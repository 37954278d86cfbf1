"""Drawing the digits that somebody asks for, with a class-conditional generator."""

import numpy as np

from gan.errors import DataError, UserError
from gan.generators import inputs_of, require_images
from gan.images import tile, to_uint8

MOST_DIGITS = 1000


def draw_digits(generator, text, *, seed):
    """Draw the digits of `text` in a row: uint8 [28, 28 * len(text)]; a space stays black.

    `generator` has the inputs "latents" float32 [n, latent_dim] and "labels" int32 [n]. A digit's latents depend on `seed` and
    its place alone. Raises UserError for any other character and for more than MOST_DIGITS, and DataError for a generator that
    takes no labels.
    """
    if not text.strip(" ") or not set(text) <= set("0123456789 "):
        raise UserError(f"expected digits and spaces to draw, got {text!r}")
    if len(text) > MOST_DIGITS:
        raise UserError(f"expected at most {MOST_DIGITS} digits to draw, got {len(text)}")
    inputs = inputs_of(generator)
    if not inputs.conditional:
        raise DataError(
            "this model takes no wishes: it was not trained class-conditional; "
            "`gan use conditional-60s` and `dvc repro train` make one that does"
        )
    from gan.products import function_of

    latents = np.random.default_rng(seed).standard_normal((len(text), inputs.latent_dim), np.float32)
    labels = np.array([int(character) if character != " " else 0 for character in text], np.int32)
    images = np.asarray(function_of(generator)(inputs.arrange(latents, labels)))
    require_images(images)
    cells = to_uint8(images)
    cells[[character == " " for character in text]] = 0
    return tile(cells, columns=len(text))
