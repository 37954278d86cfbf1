"""Drawing many images from a trained generator, with or without class labels."""

import numpy as np
import tensorflow as tf

from gan.errors import DataError
from gan.images import IMAGE_SHAPE

_BLOCK_IMAGES = 500


class Sampler:
    """Draws images from `generator`, which may be given other weights between two draws.

    A generator with the two inputs "latents" float32 [n, latent_dim] and "labels" int32 [n] is class-conditional; any other has
    the latents alone. Raises DataError if it is neither.
    """

    def __init__(self, generator):
        inputs = {tensor.name: tensor for tensor in generator.inputs}
        self.conditional = set(inputs) == {"latents", "labels"}
        latents = inputs["latents"] if self.conditional else generator.inputs[0]
        if (len(inputs) != 1 and not self.conditional) or len(latents.shape) != 2:
            shapes = {name: list(tensor.shape) for name, tensor in inputs.items()}
            raise DataError(f"expected a generator of latents [n, latent_dim], or of latents and labels [n], got inputs {shapes}")
        self._latent_dim = latents.shape[1]
        self._inputs = [tensor.name for tensor in generator.inputs]
        self._generate = tf.function(lambda inputs: generator(inputs, training=False), reduce_retracing=True, autograph=False)

    def draw(self, *, count, class_shares, seed):
        """`count` images float32 [count, 28, 28, 1] in [-1, 1], and their labels int32 [count], or None without classes.

        `seed` is an int or a list of ints. Latents are standard normal. Labels are drawn at random by the `class_shares` float64
        [10] of the real digits, so that the sample's classes differ from the real ones by chance alone if the generator heeds
        its labels. Raises DataError on NaN or infinity, and on images of another shape or range.
        """
        random = np.random.default_rng(seed)
        latents = random.standard_normal((count, self._latent_dim), np.float32)
        labels = random.choice(len(class_shares), count, p=class_shares).astype(np.int32) if self.conditional else None
        images = np.concatenate(
            [self._block(latents, labels, slice(start, start + _BLOCK_IMAGES)) for start in range(0, count, _BLOCK_IMAGES)]
        )
        if images.shape[1:] != IMAGE_SHAPE:
            raise DataError(f"expected images [n, 28, 28, 1] from the generator, got {list(images.shape)}")
        if not np.isfinite(images).all():
            raise DataError("the generator's images hold NaN or infinity: its training diverged; lower a learning rate")
        if np.abs(images).max() > 1:
            raise DataError(f"expected images in [-1, 1] from the generator, got {images.min()} to {images.max()}")
        return images, labels

    def _block(self, latents, labels, rows):
        if not self.conditional:
            return self._generate(latents[rows]).numpy()
        values = {"latents": latents[rows], "labels": labels[rows]}
        return self._generate([values[name] for name in self._inputs]).numpy()
