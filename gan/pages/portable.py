"""Networks that a page can compute by itself: a list of plain layers, and their weights as small whole numbers.

A weighted layer's weights are one matrix float32 [rows + 1, outputs]; its last row is the bias. Networks here are chains: each
layer reads what the one before it wrote.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

WEIGHTED = ("dense", "convolution")
_MOST_WEIGHTS = 300_000  # of one network: about 500 kB of a page
_LEVELS = tuple(round(2 ** (bits / 4)) for bits in range(12, 57))  # whole steps from 0 to a column's largest weight


class NotPortable(Exception):
    """A network that a page cannot compute; the message says why, for people who read the page."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A chain of layers, each a dict with `kind` and its numbers, and a matrix for each of them that is WEIGHTED, in order.

    `one_hot` says what stands behind the latents at a generator's input: None, or a dict with `of` ("labels", or "first latent",
    then with `bounds`) and `scale`.
    """

    layers: list
    matrices: list
    one_hot: dict | None = None

    def with_matrices(self, matrices):
        """The same layers with other weights."""
        return dataclasses.replace(self, matrices=matrices)


def describe(output):
    """The Network that computes `output`, a tensor of a Keras model. Raises NotPortable for layers that are not known here."""
    operations, one_hot, tensor = [], None, output
    while True:
        operation = tensor._keras_history.operation
        kind = type(operation).__name__
        if kind == "InputLayer":
            break
        if kind == "Concatenate":
            one_hot = _one_hot(operation)
            break
        operations.append(operation)
        tensor = operation.input
        if isinstance(tensor, list | dict):
            raise NotPortable(f"its layer {operation.name} has several inputs")
    layers, matrices = [], []
    for operation in reversed(operations):
        _add(layers, matrices, operation)
    count = sum(matrix.size for matrix in matrices)
    if count > _MOST_WEIGHTS:
        raise NotPortable(f"it has {count:,} weights, and a page holds {_MOST_WEIGHTS:,} at most")
    return Network(layers, matrices, one_hot)


def inputs_of(network, latents, labels):
    """What a generator's first layer sees, float32 [n, d]: latents float32 [n, latent_dim] and what labels int [n] become."""
    if network.one_hot is None:
        return latents
    if network.one_hot["of"] == "labels":
        count = network.one_hot["count"]
    else:
        bounds = np.array(network.one_hot["bounds"], np.float32)
        labels, count = np.searchsorted(bounds, latents[:, 0], side="right"), len(bounds) + 1
    return np.concatenate([latents, network.one_hot["scale"] * np.eye(count, dtype=np.float32)[labels]], axis=1)


def compute(network, inputs):
    """What the network makes of `inputs` float32 [n, ...]: float32 [n, outputs], in float32 whatever Keras computed in."""
    return np.concatenate([outputs for _, outputs in _in_blocks(network, inputs)])


def _in_blocks(network, inputs):
    """Pairs of a slice of `inputs` and what the network makes of it, one after the other."""
    matrices = [tf.constant(matrix) for matrix in network.matrices]
    for start in range(0, len(inputs), 250):
        block = slice(start, start + 250)
        yield block, _forward(network.layers, matrices, inputs[block]).numpy()


def quantize(network, inputs, *, tolerance, share=1.0):
    """Weights as whole numbers of steps, as coarse as `tolerance` allows.

    It is how far any output may move, for a `share` of `inputs` float32 [n, ...].

    Returns the network with rounded weights, and for each matrix (int16 [rows + 1, outputs], steps float32 [outputs]).
    Raises NotPortable where the finest steps are too coarse.
    """
    exact = compute(network, inputs)
    found, coarse, fine = None, 0, len(_LEVELS)
    while coarse < fine:  # what is finer than enough is enough as well, or nearly always
        middle = (coarse + fine) // 2
        packed = [_round(matrix, _LEVELS[middle]) for matrix in network.matrices]
        rounded = network.with_matrices([whole.astype(np.float32) * steps for whole, steps in packed])
        if _moves_little(rounded, inputs, exact, tolerance, share):
            found, fine = (rounded, packed), middle
        else:
            coarse = middle + 1
    if found is None:
        raise NotPortable("its outputs change too much when its weights are rounded")
    return found


def _moves_little(network, inputs, exact, tolerance, share):
    """Whether the network's outputs are within `tolerance` of `exact` for a `share` of `inputs`."""
    moved = np.zeros(len(inputs), np.float32)
    for block, outputs in _in_blocks(network, inputs):
        moved[block] = np.abs(outputs - exact[block]).max(axis=1)
        if not np.quantile(moved, share) <= tolerance:  # whatever the others are; also true of NaN
            return False
    return True


def _round(matrix, levels):
    """A matrix as whole steps int16, with a step float32 for each column: its largest weight over `levels`, whatever its bias."""
    largest = np.abs(matrix)
    steps = np.maximum(largest[:-1].max(axis=0) / np.float32(levels), largest[-1] / np.float32(32767))
    steps = np.where(steps > 0, steps, np.float32(1))
    return np.rint(matrix / steps).astype(np.int16), steps


def _one_hot(concatenate):
    """What a generator's labels, or the cluster of its first latent, become at its input; see Network."""
    try:
        latents, scaled = concatenate.input
        rescaling = scaled._keras_history.operation
        coded = rescaling.input._keras_history.operation
        source = coded.input._keras_history.operation
        kinds = [type(one).__name__ for one in (latents._keras_history.operation, rescaling, coded, source)]
        if kinds == ["InputLayer", "Rescaling", "OneHot", "InputLayer"] and rescaling.offset == 0:
            return {"of": "labels", "count": coded.num_classes, "scale": rescaling.scale}
        if kinds == ["InputLayer", "Rescaling", "Discretization", "GetItem"] and rescaling.offset == 0:
            return {"of": "first latent", "bounds": list(coded.bin_boundaries), "scale": rescaling.scale}
    except (AttributeError, ValueError, TypeError):
        pass
    raise NotPortable(f"its layer {concatenate.name} joins something that is not known here")


def _add(layers, matrices, operation):
    """Append what `operation` does to `layers` and `matrices`."""
    kind, shape = type(operation).__name__, list(operation.input.shape[1:])
    if kind in ("Reshape", "Flatten"):
        return  # the numbers stay in their order
    if kind == "Dense" and len(shape) == 1:
        layers.append({"kind": "dense", "inputs": shape[0], "outputs": operation.units})
        _add_weights(matrices, operation)
        _add_activation(layers, operation)
    elif (
        kind == "Conv2D"
        and operation.padding == "same"
        and operation.kernel_size[0] == operation.kernel_size[1]
        and operation.strides[0] == operation.strides[1]
        and operation.dilation_rate == (1, 1)
        and operation.groups == 1
    ):
        numbers = {"size": operation.kernel_size[0], "stride": operation.strides[0], "outputs": operation.filters}
        layers.append({"kind": "convolution", **_image(shape), **numbers})
        _add_weights(matrices, operation)
        _add_activation(layers, operation)
    elif kind == "BatchNormalization" and layers[-1:] and layers[-1]["kind"] in WEIGHTED:
        _fold(matrices, operation)
    elif kind == "LeakyReLU" or kind == "ReLU" and operation.max_value is None and not operation.threshold:
        layers.append({"kind": "leaky_relu", "slope": float(operation.negative_slope)})
    elif kind == "MaxPooling2D" and operation.pool_size == operation.strides == (2, 2) and operation.padding == "same":
        layers.append({"kind": "max_pool", **_image(shape)})
    elif kind == "DepthToSpace" and operation.block_size == 2:
        layers.append({"kind": "depth_to_space", **_image(shape)})
    elif kind == "Activation":
        _add_activation(layers, operation)
    elif kind == "Softmax":
        layers.append({"kind": "softmax"})
    else:
        raise NotPortable(f"its layer {operation.name} ({kind}) is not known here")


def _image(shape):
    height, width, channels = shape
    return {"height": height, "width": width, "inputs": channels}


def _add_weights(matrices, operation):
    kernel = operation.kernel.numpy()
    bias = operation.bias.numpy() if operation.use_bias else np.zeros(kernel.shape[-1], np.float32)
    matrices.append(np.concatenate([kernel.reshape(-1, kernel.shape[-1]), bias[None]]))


def _add_activation(layers, operation):
    name = keras.activations.serialize(operation.activation)
    known = {
        "linear": None,
        "relu": {"kind": "leaky_relu", "slope": 0.0},
        "tanh": {"kind": "tanh"},
        "softmax": {"kind": "softmax"},
    }
    if name not in known:
        raise NotPortable(f"its layer {operation.name} ends in {name}, which is not known here")
    if known[name]:
        layers.append(known[name])


def _fold(matrices, normalization):
    """Put a batch normalization into the weights before it: outside training it is a factor and an offset for each output."""
    mean, variance = normalization.moving_mean.numpy(), normalization.moving_variance.numpy()
    factor = 1 / np.sqrt(variance + np.float32(normalization.epsilon))
    factor = factor * normalization.gamma.numpy() if normalization.scale else factor
    offset = -mean * factor
    matrices[-1] = matrices[-1] * factor
    matrices[-1][-1] += offset + normalization.beta.numpy() if normalization.center else offset


def _forward(layers, matrices, inputs):
    x, matrices = tf.convert_to_tensor(inputs, tf.float32), iter(matrices)
    for layer in layers:
        kind = layer["kind"]
        if "height" in layer:
            x = tf.reshape(x, [-1, layer["height"], layer["width"], layer["inputs"]])
        if kind == "dense":
            matrix = next(matrices)
            x = tf.reshape(x, [-1, layer["inputs"]]) @ matrix[:-1] + matrix[-1]
        elif kind == "convolution":
            matrix = next(matrices)
            kernel = tf.reshape(matrix[:-1], [layer["size"], layer["size"], layer["inputs"], layer["outputs"]])
            x = tf.nn.conv2d(x, kernel, layer["stride"], "SAME") + matrix[-1]
        elif kind == "leaky_relu":
            x = tf.nn.leaky_relu(x, layer["slope"])
        elif kind == "max_pool":
            x = tf.nn.max_pool2d(x, 2, 2, "SAME")
        elif kind == "depth_to_space":
            x = tf.nn.depth_to_space(x, 2)
        elif kind == "tanh":
            x = tf.tanh(x)
        elif kind == "softmax":
            x = tf.nn.softmax(x)
    return tf.reshape(x, [len(inputs), -1])
