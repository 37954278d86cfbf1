import hashlib
import platform

import numpy as np
import pytest

SLOPE = 0.2
BYTES = {
    (16, 128, 784): "ad75ec3a",
    (20, 200, 300): "0e1f1a6f",
    (56, 200, 130): "e7c9336d",
    (60, 784, 128): "da5b8b8a",
    (77, 784, 34): "a5683c53",
    (77, 784, 50): "b68ca908",
    (100, 1500, 20): "97c21827",
    (50, 1500, 36): "ffba6b35",
    (300, 784, 300): "67b8d128",
}


@pytest.fixture
def models(tensorflow):
    """Two layers with a LeakyReLU each, and their copy."""
    import keras

    from gan.products import with_fused_activations

    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.LeakyReLU(negative_slope=SLOPE)(keras.layers.Conv2D(4, 3, padding="same")(inputs))
    x = keras.layers.LeakyReLU(negative_slope=SLOPE)(keras.layers.Dense(5)(keras.layers.Flatten()(x)))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    return model, with_fused_activations(model)


def first_and_second_gradients(tf, model, images):
    """The outputs, their gradients by weights and images, and those of the squared gradient by the images, as R1 has it."""
    weights = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as outer:
        outer.watch(weights)
        with tf.GradientTape(persistent=True) as inner:
            inner.watch([images, *weights])
            outputs = model.stateless_call(weights, [], images)[0]
        by_images = inner.gradient(outputs, images)
        penalty = tf.reduce_sum(tf.square(by_images))
    second = outer.gradient(penalty, weights, unconnected_gradients="zero")
    return [outputs, by_images, *inner.gradient(outputs, weights), *second]


def test_fused_activations_have_the_same_values_and_gradients(models, tensorflow):
    images = tensorflow.random.stateless_normal([7, 6, 6, 3], [1, 2])
    wanted, found = (first_and_second_gradients(tensorflow, model, images) for model in models)
    assert any(np.abs(values).max() > 0 for values in wanted[-6:])
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(one, other)


def operations(tf, model):
    """The kinds of operations of one gradient by the weights, after the graph optimiser."""
    from tensorflow.python.eager import context  # the only way to see what it has made

    weights = [variable.value for variable in model.trainable_variables]

    @tf.function(autograph=False)
    def gradient(images, weights):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            outputs = model.stateless_call(weights, [], images)[0]
        return tape.gradient(outputs, weights)

    context.enable_graph_collection()
    try:
        gradient(tf.zeros([7, 6, 6, 3]), weights)
        graphs = context.export_run_metadata().partition_graphs
    finally:
        context.disable_graph_collection()
    return [node.op for graph in graphs for node in graph.node]


def test_a_graph_has_no_operation_of_their_own(models, tensorflow):
    plain, fused = (operations(tensorflow, model) for model in models)
    assert plain.count("LeakyRelu") == 2
    assert fused.count("LeakyRelu") == 0
    assert fused.count("LeakyReluGrad") == plain.count("LeakyReluGrad") == 2


@pytest.mark.parametrize("rows, pieces", [(300, 2), (301, 2), (120, 1)])
def test_a_large_product_in_halves_rounds_as_the_whole_and_so_do_its_gradients(tensorflow, rows, pieces):
    from gan.products import product

    tf = tensorflow
    shapes = [[rows, 784], [784, 300], [rows, 300]]
    a, b, upstream = (tf.random.stateless_normal(shape, [number, 5]) for number, shape in enumerate(shapes))

    @tf.function(autograph=False, jit_compile=True)
    def in_halves(a, b, upstream):
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            result = product(a, b)
        return [result, *tape.gradient(result, [a, b], output_gradients=upstream)]

    @tf.function(autograph=False, jit_compile=True)
    def whole(a, b, upstream):
        return [a @ b, upstream @ tf.transpose(b), tf.transpose(a) @ upstream]

    for found, wanted in zip(in_halves(a, b, upstream), whole(a, b, upstream), strict=True):
        np.testing.assert_array_equal(found, wanted)
    program = tf.function(product, autograph=False, jit_compile=True).experimental_get_compiler_ir(a, b)(stage="hlo")
    assert program.count(" dot(") == pieces


@pytest.mark.parametrize("depth, counts", [(128, (51, 60)), (300, (1, 16, 48, 51, 60, 63)), (784, (1, 16, 30, 48, 60, 63))])
def test_a_row_is_the_same_among_few_rows_and_among_many(tensorflow, depth, counts):
    # below some number of rows the library cuts sums in another way, and that number differs between processors
    from gan.products import product

    compiled = tensorflow.function(product, autograph=False, jit_compile=True)
    a, b = (tensorflow.random.stateless_normal(shape, [depth, 5]) for shape in ([150, depth], [depth, 784]))
    wanted = compiled(a, b)
    for count in counts:
        np.testing.assert_array_equal(compiled(a[:count], b), wanted[:count])


def test_a_product_of_any_number_of_rows_is_a_whole_one(tensorflow):
    from gan.products import product

    rows = tensorflow.TensorSpec([None, 784])
    of_any = tensorflow.function(product, input_signature=[rows, tensorflow.TensorSpec([784, 300])], autograph=False)
    assert of_any(tensorflow.ones([300, 784]), tensorflow.ones([784, 300])).numpy().tolist() == [[784.0] * 300] * 300


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the promise is for x86-64 processors with AVX2")
def test_a_product_has_the_same_bytes_on_every_processor(tensorflow):
    """Shapes in which kernels for AVX2 and for AVX-512 would add up sums in other blocks, as both have computed them."""
    from gan.products import product

    compiled = tensorflow.function(product, autograph=False, jit_compile=True)
    random = np.random.default_rng(0)
    found = {}
    for rows, depth, columns in BYTES:
        a, b = (random.standard_normal(shape, np.float32) for shape in ((rows, depth), (depth, columns)))
        found[rows, depth, columns] = hashlib.sha256(compiled(a, b).numpy().tobytes()).hexdigest()[:8]
    assert found == BYTES


def test_columns_that_are_filled_up_have_no_gradients(tensorflow):
    from gan.products import product

    tf = tensorflow
    shapes = [[70, 600], [600, 36], [70, 36]]
    a, b, upstream = (tf.random.stateless_normal(shape, [number, 7]) for number, shape in enumerate(shapes))

    def by(multiply):
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            result = multiply(a, b)
        return [result, *tape.gradient(result, [a, b], output_gradients=upstream)]

    found = tf.function(lambda: by(product), autograph=False, jit_compile=True)()
    for one, wanted in zip(found, by(tf.matmul), strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-4, atol=1e-3)
