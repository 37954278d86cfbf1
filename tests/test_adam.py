import numpy as np
import pytest

OPTIONS = {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}


def test_first_update_by_hand(tensorflow):
    from gan.adam import adam_update

    # m = 0.1 g, v = 0.001 g^2; rate = 1e-3 sqrt(0.001) / 0.1; so the weight moves by 1e-3 against the gradient's sign
    zeros = [tensorflow.zeros(2)]
    weights, m, v = adam_update(
        [tensorflow.constant([1.0, 1.0])], [tensorflow.constant([2.0, -4.0])], zeros, zeros, update=1.0, **OPTIONS
    )
    np.testing.assert_allclose(weights[0], [0.999, 1.001], rtol=1e-6)
    np.testing.assert_allclose(m[0], [0.2, -0.4], rtol=1e-6)
    np.testing.assert_allclose(v[0], [0.004, 0.016], rtol=1e-5)


def test_hundred_updates_agree_with_keras(tensorflow):
    import keras

    from gan.adam import adam_update

    rng = np.random.default_rng(0)
    start = rng.normal(size=(20, 30)).astype(np.float32)
    gradients = rng.normal(size=(100, 20, 30)).astype(np.float32) * np.logspace(-6, 1, 100)[:, None, None].astype(np.float32)
    variable = keras.Variable(start)
    optimizer = keras.optimizers.Adam(**OPTIONS)
    weights, m, v = [tensorflow.constant(start)], [tensorflow.zeros_like(start)], [tensorflow.zeros_like(start)]
    for index, gradient in enumerate(gradients):
        optimizer.apply([tensorflow.constant(gradient)], [variable])
        weights, m, v = adam_update(weights, [tensorflow.constant(gradient)], m, v, update=np.float32(index + 1), **OPTIONS)
    np.testing.assert_allclose(weights[0], variable.value, rtol=2e-6, atol=1e-7)


def test_zero_gradient_from_the_start_changes_nothing(tensorflow):
    from gan.adam import adam_update

    zeros = [tensorflow.zeros(3)]
    weights, _, _ = adam_update([tensorflow.ones(3)], zeros, zeros, zeros, update=1.0, **OPTIONS)
    np.testing.assert_array_equal(weights[0], np.ones(3, np.float32))


@pytest.mark.parametrize("name", ["update", "learning_rate", "beta_1", "beta_2", "epsilon"])
def test_every_number_is_given_by_name(tensorflow, name):
    from gan.adam import adam_update

    options = {"update": 1.0, **OPTIONS}
    del options[name]
    with pytest.raises(TypeError, match=name):
        adam_update([], [], [], [], **options)
