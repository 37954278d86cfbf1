"""The lecture's two networks as Keras models, and saving them so that the same weights give the same bytes."""

import json
import zipfile

import keras

from gan.files import replacing

IMAGE_SHAPE = (28, 28, 1)


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


def save_model(model, path):
    """Save architecture and weights in Keras' own format at `path` (ending in .keras), for `keras.models.load_model`.

    Keras writes the time into the archive and its metadata, and memory addresses into the configuration as the numbers of shared
    objects. Constants and a count replace them, so that equal models are equal files.
    """
    with replacing(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary) as archive:
            members = {name: archive.read(name) for name in sorted(archive.namelist())}
        metadata = json.loads(members["metadata.json"])
        metadata["date_saved"] = "1980-01-01@00:00:00"
        members["metadata.json"] = json.dumps(metadata).encode()
        numbers = {}
        config = json.loads(members["config.json"], object_hook=lambda value: _number_shared_object(value, numbers))
        members["config.json"] = json.dumps(config).encode()
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), content)


def _number_shared_object(value, numbers):
    if "shared_object_id" in value:
        value["shared_object_id"] = numbers.setdefault(value["shared_object_id"], len(numbers))
    return value


def _glorot(seed, index):
    return keras.initializers.GlorotUniform(seed=seed * 1000 + index)
