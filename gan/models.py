"""The lecture's two networks as Keras models."""

import keras

from gan.images import IMAGE_SHAPE


def build_generator(*, latent_dim, units, leaky_slope, seed):
    """Latents float32 [n, latent_dim] -> images float32 [n, 28, 28, 1] in [-1, 1]: dense layers of `units`, LeakyReLU, tanh.

    The weights start as Keras' defaults (Glorot uniform, zero biases), drawn from `seed`.
    """
    latents = x = keras.Input((latent_dim,), name="latents")
    for index, width in enumerate(units):
        x = keras.layers.Dense(width, kernel_initializer=_glorot(seed, index), name=f"dense_{index}")(x)
        x = keras.layers.LeakyReLU(negative_slope=leaky_slope, name=f"leaky_relu_{index}")(x)
    x = keras.layers.Dense(28 * 28, activation="tanh", kernel_initializer=_glorot(seed, len(units)), name="pixels")(x)
    return keras.Model(latents, keras.layers.Reshape(IMAGE_SHAPE, name="images")(x), name="generator")


def build_discriminator(*, units, leaky_slope, seed):
    """Images float32 [n, 28, 28, 1] in [-1, 1] -> the probability float32 [n, 1] in [0, 1] of being real."""
    images = keras.Input(IMAGE_SHAPE, name="images")
    x = keras.layers.Flatten(name="flatten")(images)
    for index, width in enumerate(units):
        x = keras.layers.Dense(width, kernel_initializer=_glorot(seed, index), name=f"dense_{index}")(x)
        x = keras.layers.LeakyReLU(negative_slope=leaky_slope, name=f"leaky_relu_{index}")(x)
    x = keras.layers.Dense(1, kernel_initializer=_glorot(seed, len(units)), name="logits")(x)
    return keras.Model(images, keras.layers.Activation("sigmoid", name="probability")(x), name="discriminator")


def logits_of(discriminator):
    """The discriminator up to its logits: the same layers and weights, without the final sigmoid."""
    return keras.Model(discriminator.input, discriminator.get_layer("logits").output, name="discriminator_logits")


def _glorot(seed, index):
    return keras.initializers.GlorotUniform(seed=seed * 1000 + index)
