import numpy as np
import pytest

KERAS_OPTIONS = {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
OPTIONS = {**KERAS_OPTIONS, "update_clip": 0.0}


def test_first_update_by_hand(tensorflow):
    from gan.training.adam import adam_update

    # m = 0.1 g, v = 0.001 g^2; rate = 1e-3 sqrt(0.001) / 0.1; so the weight moves by 1e-3 against the gradient's sign
    zeros = [tensorflow.zeros(2)]
    weights, m, v = adam_update(
        [tensorflow.constant([1.0, 1.0])], [tensorflow.constant([2.0, -4.0])], zeros, zeros, update=1.0, **OPTIONS
    )
    np.testing.assert_allclose(weights[0], [0.999, 1.001], rtol=1e-6)
    np.testing.assert_allclose(m[0], [0.2, -0.4], rtol=1e-6)
    np.testing.assert_allclose(v[0], [0.004, 0.016], rtol=1e-5)


@pytest.mark.parametrize("beta_1", [0.9, 0.0])
def test_hundred_updates_agree_with_keras(tensorflow, beta_1):
    import keras

    from gan.training.adam import adam_update

    rng = np.random.default_rng(0)
    start = rng.normal(size=(20, 30)).astype(np.float32)
    gradients = rng.normal(size=(100, 20, 30)).astype(np.float32) * np.logspace(-6, 1, 100)[:, None, None].astype(np.float32)
    variable = keras.Variable(start)
    changed = {"beta_1": beta_1}
    optimizer = keras.optimizers.Adam(**KERAS_OPTIONS | changed)
    weights, m, v = [tensorflow.constant(start)], [tensorflow.zeros_like(start)], [tensorflow.zeros_like(start)]
    for index, gradient in enumerate(gradients):
        optimizer.apply([tensorflow.constant(gradient)], [variable])
        weights, m, v = adam_update(
            weights, [tensorflow.constant(gradient)], m, v, update=np.float32(index + 1), **OPTIONS | changed
        )
    np.testing.assert_allclose(weights[0], variable.value, rtol=2e-6, atol=1e-7)


def test_a_sudden_gradient_moves_weights_by_the_limit(tensorflow):
    from gan.training.adam import adam_update

    rng = np.random.default_rng(0)
    options = {"learning_rate": 0.003, "beta_1": 0.0, "beta_2": 0.99, "epsilon": 1e-7}
    shapes = [(20, 30), (30,)]  # of the two, only the first has the sudden gradient
    start = [tensorflow.constant(rng.normal(size=shape).astype(np.float32)) for shape in shapes]
    m = v = [tensorflow.zeros_like(weight) for weight in start]
    weights = start
    for index in range(300):
        gradients = [tensorflow.constant(rng.normal(size=shape).astype(np.float32)) for shape in shapes]
        weights, m, v = adam_update(weights, gradients, m, v, update=np.float32(index + 1), update_clip=0.0, **options)
    gradients[0] = 1000 * gradients[0]

    def moved(update_clip):
        after, after_m, after_v = adam_update(
            weights, gradients, m, v, update=np.float32(301), update_clip=update_clip, **options
        )
        change = [(a - b).numpy() / 0.003 for a, b in zip(after, weights, strict=True)]
        return change, [moment.numpy() for moment in (*after_m, *after_v)]

    free, free_moments = moved(0.0)
    limited, limited_moments = moved(1.5)
    np.testing.assert_allclose(np.sqrt(np.mean(free[0] ** 2)), 0.01**-0.5, rtol=0.05)
    np.testing.assert_allclose(np.sqrt(np.mean(limited[0] ** 2)), 1.5, rtol=1e-3)
    cosine = np.sum(limited[0] * free[0]) / np.linalg.norm(limited[0]) / np.linalg.norm(free[0])
    assert cosine > 0.9999  # scaled as a whole
    np.testing.assert_array_equal(limited[1], free[1])
    for ours, theirs in zip(limited_moments, free_moments, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("update_clip", [0.0, 1.0])
def test_no_gradient_and_no_rate_are_no_division_by_zero(tensorflow, update_clip):
    from gan.training.adam import adam_update

    zeros = [tensorflow.zeros(3)]
    for rate in (0.0, 1e-3):
        options = {**OPTIONS, "learning_rate": tensorflow.constant(rate), "update_clip": update_clip}
        weights, _, _ = adam_update([tensorflow.ones(3)], zeros, zeros, zeros, update=1.0, **options)
        np.testing.assert_array_equal(weights[0], np.ones(3, np.float32))


@pytest.mark.parametrize("name", ["update", "learning_rate", "beta_1", "beta_2", "epsilon", "update_clip"])
def test_every_number_is_given_by_name(tensorflow, name):
    from gan.training.adam import adam_update

    options = {"update": 1.0, **OPTIONS}
    del options[name]
    with pytest.raises(TypeError, match=name):
        adam_update([], [], [], [], **options)
