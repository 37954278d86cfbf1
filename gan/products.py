"""Layers for their surroundings: dense ones that round alike on every processor under XLA, activations that a graph can fuse.

XLA is meant as `gan.runtime` has it set up.
"""

import keras
import tensorflow as tf

_TANH_IS_ONE = 20.0
# The library adds up long sums in blocks. In a product of few rows, how long they are depends on how many rows its kernels take
# at once, 6 for AVX2 and 5 for AVX-512: sums of up to 320 are whole from 61 rows on, or from 51; longer ones have more bounds.
_FEWEST_ROWS = 64
# They follow the number of columns too, rounded up to 8 for AVX2 and to 16 for AVX-512, where these are few and the sums long.
_COLUMNS_AT_A_TIME, _MANY_COLUMNS, _SHORT_SUM = 16, 64, 512
# below both bounds the two agree on these, and the lecture's sixteen samples have always been computed so
_ALIKE_ROWS, _ALIKE_SUM = 48, 128
_LARGE = 10_000_000  # multiply-adds of a product that is worth halving
_ROWS_AT_A_TIME = 30  # a multiple of kernels' rows


@tf.custom_gradient
def product(a, b):
    """The matrix product of a float32 [m, k] and b float32 [k, n], whose gradients are such products again, of transposed copies.

    XLA leaves the product of two plain matrices to a library that rounds alike on every processor, given enough rows and columns;
    one of fewer is filled up. One whose first factor is read across its rows, as in TensorFlow's own gradient, XLA gives to
    Eigen, which cuts it by the sizes of the processor's caches.
    """

    def gradients(upstream):
        return product(upstream, tf.transpose(b)), product(tf.transpose(a), upstream)

    (rows, depth), columns = a.shape, b.shape[1]
    if rows is None:  # outside of XLA
        return tf.matmul(a, b), gradients
    if _COLUMNS_AT_A_TIME < columns < _MANY_COLUMNS and depth > _SHORT_SUM:
        return _by_rows(a, tf.pad(b, [[0, 0], [0, -columns % _COLUMNS_AT_A_TIME]]))[:, :columns], gradients
    return _by_rows(a, b), gradients


def _by_rows(a, b):
    """Their product, with rows filled up where they are few, in two halves where it is large."""
    rows, depth = a.shape
    if rows < _FEWEST_ROWS and (rows > _ALIKE_ROWS or depth > _ALIKE_SUM):
        return tf.matmul(tf.pad(a, [[0, _FEWEST_ROWS - rows], [0, 0]]), b)[:rows]
    # the library cuts a product unevenly between two threads; two products are computed side by side
    half = rows // 2 // _ROWS_AT_A_TIME * _ROWS_AT_A_TIME
    if half < _FEWEST_ROWS or rows * depth * b.shape[1] < _LARGE:
        return tf.matmul(a, b)
    return tf.concat([a[:half] @ b, a[half:] @ b], axis=0)


def with_alike_products(model):
    """A copy of a Keras model with `product` in its dense layers; it has the model's weights and order of weights."""
    return _copy(model, lambda layer: _Dense if type(layer) is keras.layers.Dense else type(layer))


def with_fused_activations(model):
    """A copy of a Keras model whose LeakyReLUs take their gradients from their outputs; it has the model's weights.

    TensorFlow's graph optimiser makes one operation of a convolution or product, its biases and a LeakyReLU if nothing else asks
    for what lies in between. A gradient by the inputs would.
    """
    return _copy(model, lambda layer: _LeakyReLU if type(layer) is keras.layers.LeakyReLU else type(layer))


def function_of(model):
    """A compiled function from what `model` takes to what it gives, by the weights that it has when the function is called.

    Layers compute in float32, whatever they were trained in: not every processor has bfloat16. Networks without convolutions are
    compiled by XLA and give the same bytes on every processor. Convolutions would take too long that way; they are left to
    TensorFlow's own kernels.
    """
    xla = not any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
    network = _copy(model, lambda layer: _Dense if xla and type(layer) is keras.layers.Dense else type(layer), dtype="float32")
    non_trainable = [variable.value for variable in network.non_trainable_variables]

    @tf.function(reduce_retracing=not xla, autograph=False, jit_compile=xla)
    def apply(weights, inputs):
        return network.stateless_call(weights, non_trainable, inputs, training=False)[0]

    return lambda inputs: apply([variable.value for variable in model.trainable_variables], inputs)


def _copy(model, class_of, dtype=None):
    """A copy of `model` whose layers are of the class that `class_of(layer)` gives; those of mixed types compute in `dtype`."""

    def copy(layer):
        config = layer.get_config()
        if dtype and isinstance(layer, keras.layers.Layer) and layer.dtype_policy.name.startswith("mixed"):
            config["dtype"] = dtype
        return class_of(layer).from_config(config)

    copied = keras.models.clone_model(model, clone_function=copy)
    copied.set_weights(model.get_weights())
    return copied


class _Dense(keras.layers.Dense):
    def call(self, inputs, training=None):
        if len(inputs.shape) != 2:
            return super().call(inputs, training=training)
        sums = product(inputs, tf.convert_to_tensor(self.kernel))
        if self.use_bias:
            sums += self.bias
        if self.activation is keras.activations.tanh:
            # no value changes, since tanh is 1 from 10 on; it keeps tanh from the products' library, where its rounding varies
            sums = tf.where(tf.abs(sums) < _TANH_IS_ONE, sums, _TANH_IS_ONE * tf.sign(sums))
        return self.activation(sums)


class _LeakyReLU(keras.layers.LeakyReLU):
    def call(self, inputs):
        @tf.custom_gradient
        def leaky_relu(x):
            y = tf.nn.leaky_relu(x, self.negative_slope)
            # outputs tell the signs of inputs: the slope is positive, or 0 and so is the gradient below zero
            return y, lambda upstream: tf.raw_ops.LeakyReluGrad(gradients=upstream, features=y, alpha=self.negative_slope)

        return leaky_relu(inputs)
