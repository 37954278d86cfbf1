import numpy as np
import pytest

SLOPE = 0.2


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
