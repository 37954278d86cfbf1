"""The two networks as Keras models of standard layers.

`dense` is the lecture's pair. `conv` is small enough for a CPU: one convolution more a stage than upsampling needs, sub-pixel
upsampling (Shi et al. 2016, arXiv 1609.05158) in place of transposed convolutions, no normalisation, He initialisation
(He et al. 2015, arXiv 1502.01852).

Class-conditional networks take labels as a second input. The generator sees them one-hot beside the latents (Mirza & Osindero
2014, arXiv 1411.1784); the discriminator has an output a class, of which the label's is taken: that is the projection of
Miyato & Koyama 2018 (arXiv 1802.05637), with the unconditional term left to the class embeddings. With clusters in place of
labels (`gan.training.clusters`), only the discriminator takes them; the generator reads its own off the first latent.
"""

import keras

from gan.images import CLASSES, IMAGE_SHAPE

ONE_HOT_SCALE = 2.0  # so that ten inputs of which one is on are heard beside some sixty of variance 1


def build_generator(
    *, latent_dim, units, leaky_slope, seed, network="dense", conditional=False, cluster_bounds=None, precision="float32"
):
    """Latents float32 [n, latent_dim] -> images float32 [n, 28, 28, 1] in [-1, 1]; LeakyReLU between the layers, tanh at the end.

    `network` "dense": hidden layers of widths `units`, Keras' default initialisation (Glorot uniform, zero biases). "conv":
    `units` are the channels at 7 x 7 and at 14 x 14. `conditional`: a second input "labels", int32 [n] in 0..9.
    `cluster_bounds`: the layers also see, one-hot, between which of these rising numbers the first latent lies. `precision` is
    the type that layers compute in, "float32" or "bfloat16"; weights and images are float32 either way. Weights are drawn from
    `seed`.
    """
    inputs = [keras.Input((latent_dim,), name="latents")]
    x = inputs[0]
    if conditional:
        inputs.append(keras.Input((), dtype="int32", name="labels"))
        one_hot = keras.layers.Rescaling(ONE_HOT_SCALE, name="scaled_one_hot")(_one_hot(inputs[1], CLASSES))
        x = keras.layers.Concatenate(name="latents_and_label")([x, one_hot])
    elif cluster_bounds:
        one_hot = keras.layers.Discretization(cluster_bounds, output_mode="one_hot", name="cluster")(x[:, :1])
        one_hot = keras.layers.Rescaling(ONE_HOT_SCALE, name="scaled_one_hot")(one_hot)
        x = keras.layers.Concatenate(name="latents_and_cluster")([x, one_hot])
    layers = _Layers(network, leaky_slope, precision, seed)
    images = {"dense": _dense_generator, "conv": _conv_generator}[network](layers, x, units)
    model = _of_trained_weights_alone(keras.Model(_one_or_all(inputs), images, name="generator"))
    first = model.trainable_variables[0]  # whose rows `temperature` scales
    if len(first.shape) != 2 or first.shape[0] != x.shape[1] or images.shape[1:] != IMAGE_SHAPE:
        raise ValueError(
            f"network = {network!r}: expected a generator that begins with a dense layer of {x.shape[1]} inputs and gives images "
            f"[n, 28, 28, 1], got first weights {list(first.shape)} and images [n, {', '.join(map(str, images.shape[1:]))}]"
        )
    return model


def build_discriminator(*, units, leaky_slope, seed, network="dense", classes=0, precision="float32"):
    """Images float32 [n, 28, 28, 1] in [-1, 1] -> the probability float32 [n, 1] in [0, 1] of being real.

    `network` "dense": hidden layers of widths `units`; "conv": `units` are the channels at 14 x 14, those at 7 x 7 and the width
    of a dense layer. `classes`: if not 0, a second input "labels", int32 [n] below it. The other arguments are those of
    `build_generator`. After training with a loss that is no cross-entropy, the
    "probability" is the sigmoid of a score.
    """
    inputs = [keras.Input(IMAGE_SHAPE, name="images")]
    layers = _Layers(network, leaky_slope, precision, seed)
    x = {"dense": _dense_discriminator, "conv": _conv_discriminator}[network](layers, inputs[0], units)
    if classes:
        inputs.append(keras.Input((), dtype="int32", name="labels"))
        scores = layers.dense(x, classes, name="class_logits", last=True)  # [n, classes]
        logits = keras.layers.Dot(axes=1, name="logits")([scores, _one_hot(inputs[1], classes)])  # [n, 1]
    else:
        logits = layers.dense(x, 1, name="logits", last=True)
    probability = keras.layers.Activation("sigmoid", name="probability")(logits)
    return _of_trained_weights_alone(keras.Model(_one_or_all(inputs), probability, name="discriminator"))


def logits_of(discriminator):
    """The discriminator up to its logits: the same layers and weights, without the final sigmoid."""
    return keras.Model(discriminator.input, discriminator.get_layer("logits").output, name="discriminator_logits")


def on_squares(generator, d_logits):
    """The `conv` networks with float32 [n, 14, 14, 4] in the place of images: a square of 2 x 2 pixels is four channels.

    `tf.nn.space_to_depth` makes squares of images, and `depth_to_space` images of squares. Both networks compute in squares
    anyway, so between the two nothing has to be rearranged. The weights are those of the models as they are now.
    """
    squares = keras.Model(generator.input, generator.get_layer("squares").output, name="generator_of_squares")

    def copy(operation):
        if type(operation).__name__ == "SpaceToDepth":
            return keras.layers.Identity(name="squares_already")
        return type(operation).from_config(operation.get_config())

    inputs = [keras.Input(squares.output.shape[1:], name="squares"), *d_logits.inputs[1:]]
    of_squares = keras.models.clone_model(d_logits, input_tensors=_one_or_all(inputs), clone_function=copy)
    of_squares.set_weights(d_logits.get_weights())
    return squares, of_squares


def _dense_generator(layers, x, units):
    for width in units:
        x = layers.leaky_relu(layers.dense(x, width))
    x = layers.dense(x, 28 * 28, name="pixels", activation="tanh", last=True)
    return keras.layers.Reshape(IMAGE_SHAPE, name="images")(x)


def _dense_discriminator(layers, images, units):
    x = keras.layers.Flatten(name="flatten")(images)
    for width in units:
        x = layers.leaky_relu(layers.dense(x, width))
    return x


def _conv_generator(layers, x, units):
    coarse, fine = units
    x = layers.leaky_relu(layers.reshape(layers.dense(x, 7 * 7 * coarse), (7, 7, coarse), name="coarse"))
    x = layers.leaky_relu(layers.convolution(x, coarse, 3))  # [n, 7, 7, coarse]
    x = keras.ops.depth_to_space(layers.leaky_relu(layers.convolution(x, 4 * fine, 3)), 2)  # [n, 14, 14, fine]
    x = layers.leaky_relu(layers.convolution(x, fine, 3))
    x = keras.layers.Activation("tanh", dtype="float32", name="squares")(layers.convolution(x, 4, 3))  # [n, 14, 14, 4]
    return keras.ops.depth_to_space(x, 2)  # [n, 28, 28, 1]


def _conv_discriminator(layers, images, units):
    fine, coarse, width = units
    x = keras.ops.space_to_depth(images, 2)  # [n, 14, 14, 4]
    x = layers.leaky_relu(layers.convolution(x, fine, 3))
    x = layers.leaky_relu(layers.convolution(x, coarse, 4, strides=2))  # [n, 7, 7, coarse]
    return layers.leaky_relu(layers.dense(layers.reshape(x, (7 * 7 * coarse,), name="flatten"), width))


class _Layers:
    """Makes a network's layers, numbered by kind; the seed of a layer's weights counts all layers that have any."""

    def __init__(self, network, leaky_slope, precision, seed):
        self._initializer = {"dense": keras.initializers.GlorotUniform, "conv": keras.initializers.HeNormal}[network]
        self._leaky_slope = leaky_slope
        self._dtype = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision]
        self._seed = seed * 1000
        self._counts = {"dense": 0, "convolution": 0, "leaky_relu": 0}

    def dense(self, x, width, *, name=None, activation=None, last=False):
        name, initializer = name or self._name("dense"), self._next_initializer()
        dtype = "float32" if last else self._dtype
        return keras.layers.Dense(width, activation, kernel_initializer=initializer, dtype=dtype, name=name)(x)

    def convolution(self, x, channels, size, *, strides=1):
        name, initializer = self._name("convolution"), self._next_initializer()
        return keras.layers.Conv2D(channels, size, strides, "same", kernel_initializer=initializer, dtype=self._dtype, name=name)(
            x
        )

    def reshape(self, x, shape, *, name):
        # in the others' type: by itself it would ask for float32, and what follows for its own again
        return keras.layers.Reshape(shape, dtype=self._dtype, name=name)(x)

    def leaky_relu(self, x):
        return keras.layers.LeakyReLU(negative_slope=self._leaky_slope, dtype=self._dtype, name=self._name("leaky_relu"))(x)

    def _name(self, kind):
        self._counts[kind] += 1
        return f"{kind}_{self._counts[kind] - 1}"

    def _next_initializer(self):
        self._seed += 1
        return self._initializer(seed=self._seed - 1)


def _of_trained_weights_alone(model):
    """The model; ValueError if a layer keeps more than trained weights, which neither a step nor a checkpoint would know of."""
    stateful = [f"{layer.name} ({type(layer).__name__})" for layer in model.layers if layer.non_trainable_variables]
    if stateful:
        raise ValueError(
            f"{model.name}: {', '.join(stateful)} keeps a state beside trained weights, which training does not carry on; "
            "choose layers without one, such as LayerNormalization"
        )
    return model


def _one_hot(labels, classes):
    return keras.ops.one_hot(labels, classes, dtype="float32")


def _one_or_all(inputs):
    return inputs if len(inputs) > 1 else inputs[0]
