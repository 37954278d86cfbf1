"""Drawing images from a trained generator, with or without class labels; the one place that looks at a generator's inputs."""

import dataclasses

import numpy as np

from gan.errors import DataError
from gan.images import IMAGE_SHAPE

_BLOCK_IMAGES = 500


@dataclasses.dataclass(frozen=True)
class GeneratorInputs:
    """What a generator takes: latents alone, or latents and labels if it is class-conditional."""

    names: tuple[str, ...]  # in the model's order
    latent_dim: int
    conditional: bool

    def arrange(self, latents, labels):
        """What to call the generator with, for latents float32 [n, latent_dim] and labels int32 [n], or None without classes."""
        if not self.conditional:
            return latents
        values = {"latents": latents, "labels": labels}
        return [values[name] for name in self.names]


def inputs_of(generator):
    """The GeneratorInputs of a Keras model.

    With two inputs they are named "latents" float32 [n, latent_dim] and "labels" int32 [n]; a single one is the latents, whatever
    its name. Raises DataError for a model of any other inputs, and of several outputs.
    """
    shapes = {tensor.name: list(tensor.shape) for tensor in generator.inputs}
    conditional = set(shapes) == {"latents", "labels"}
    latents = shapes["latents"] if conditional else next(iter(shapes.values()))
    if (len(shapes) != 1 and not conditional) or len(latents) != 2:
        raise DataError(f"expected a generator of latents [n, latent_dim], or of latents and labels [n], got inputs {shapes}")
    if len(generator.outputs) != 1:
        raise DataError(f"expected a generator of images alone, got {len(generator.outputs)} outputs")
    return GeneratorInputs(tuple(shapes), latents[1], conditional)


def require_images(images):
    """Raise DataError unless `images`, which a generator gave, are [n, 28, 28, 1] from -1 to 1."""
    if images.shape[1:] != IMAGE_SHAPE:
        raise DataError(f"expected images [n, 28, 28, 1] from the generator, got {list(images.shape)}")
    if not np.isfinite(images).all():
        raise DataError("the generator's images hold NaN or infinity: its training diverged; lower a learning rate")
    if np.abs(images).max() > 1:
        raise DataError(f"expected images in [-1, 1] from the generator, got {images.min()} to {images.max()}")


class Sampler:
    """Draws images from `generator`, which may be given other weights between two draws. Raises DataError as `inputs_of` does."""

    def __init__(self, generator):
        from gan.products import function_of

        self._inputs = inputs_of(generator)
        self._generate = function_of(generator)

    @property
    def conditional(self):
        return self._inputs.conditional

    def draw(self, *, count, class_shares, seed):
        """`count` images float32 [count, 28, 28, 1] in [-1, 1], and their labels int32 [count], or None without classes.

        `seed` is an int or a list of ints. Latents are standard normal. Labels are drawn at random by the `class_shares` float64
        [10] of the real digits, so that the sample's classes differ from the real ones by chance alone if the generator heeds
        its labels. Raises DataError on NaN or infinity, and on images of another shape or range.
        """
        random = np.random.default_rng(seed)
        latents = random.standard_normal((count, self._inputs.latent_dim), np.float32)
        labels = random.choice(len(class_shares), count, p=class_shares).astype(np.int32) if self.conditional else None
        images = np.concatenate(
            [self._block(latents, labels, slice(start, start + _BLOCK_IMAGES)) for start in range(0, count, _BLOCK_IMAGES)]
        )
        require_images(images)
        return images, labels

    def _block(self, latents, labels, rows):
        return self._generate(self._inputs.arrange(latents[rows], None if labels is None else labels[rows])).numpy()
