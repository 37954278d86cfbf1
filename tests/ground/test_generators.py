"""Drawing from generators, conditional or not, sound or broken."""

import numpy as np
import pytest

from gan.errors import DataError

UNIFORM = np.full(10, 0.1)


@pytest.fixture(scope="module")
def keras(tensorflow):
    import keras

    return keras


def generator(keras, conditional=False, scale=1.0, side=28):
    """One whose images are as gray as its first latent says, or as its label says if it takes one."""
    latents = keras.Input((3,), name="latents")
    if conditional:
        labels = keras.Input((), dtype="int32", name="labels")
        gray = keras.layers.Reshape((1,))(keras.layers.Rescaling(0.1)(labels))
    else:
        gray = keras.layers.Dense(1, activation="tanh", kernel_initializer="ones")(latents)
    pixels = keras.layers.RepeatVector(side * side)(keras.layers.Rescaling(scale)(gray))
    return keras.Model([latents, labels] if conditional else latents, keras.layers.Reshape((side, side, 1))(pixels))


def sampler(model):
    from gan.generators import Sampler

    return Sampler(model)


def test_a_draw_depends_on_the_seed_alone(keras):
    drawing = sampler(generator(keras))
    images, labels = drawing.draw(count=700, class_shares=UNIFORM, seed=1)
    assert images.shape == (700, 28, 28, 1) and images.dtype == np.float32 and labels is None
    assert np.array_equal(images, drawing.draw(count=700, class_shares=UNIFORM, seed=1)[0])
    assert not np.array_equal(images, drawing.draw(count=700, class_shares=UNIFORM, seed=2)[0])


def test_labels_follow_the_shares_and_reach_the_generator(keras):
    shares = np.array([0.5, 0, 0.3, 0, 0, 0, 0, 0, 0, 0.2])
    images, labels = sampler(generator(keras, conditional=True)).draw(count=4000, class_shares=shares, seed=0)
    np.testing.assert_allclose(np.bincount(labels, minlength=10) / 4000, shares, atol=0.03)
    np.testing.assert_allclose(images[:, 5, 7, 0], 0.1 * labels, rtol=1e-6)


def test_new_weights_are_used_by_the_next_draw(keras):
    model = generator(keras)
    drawing = sampler(model)
    drawing.draw(count=3, class_shares=UNIFORM, seed=0)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    assert (drawing.draw(count=3, class_shares=UNIFORM, seed=0)[0] == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": float("nan")}, "NaN or infinity: its training diverged"),
        ({"scale": 3.0}, r"images in \[-1, 1\]"),
        ({"side": 14}, r"got \[500, 14, 14, 1\]"),
    ],
)
def test_images_that_are_none_are_refused(keras, options, message):
    with pytest.raises(DataError, match=message):
        sampler(generator(keras, **options)).draw(count=500, class_shares=UNIFORM, seed=0)


def test_a_generator_with_other_inputs_is_refused(keras):
    inputs = [keras.Input((3,), name="latents"), keras.Input((), name="styles")]
    with pytest.raises(DataError, match="got inputs"):
        sampler(keras.Model(inputs, keras.layers.Concatenate()([inputs[0], keras.layers.Reshape((1,))(inputs[1])])))


def test_a_generator_that_gives_more_than_images_is_refused(keras):
    latents = keras.Input((3,), name="latents")
    with pytest.raises(DataError, match="expected a generator of images alone, got 2 outputs"):
        sampler(keras.Model(latents, [keras.layers.Dense(1)(latents), keras.layers.Dense(2)(latents)]))


def test_dense_layers_of_any_kind_draw(keras):
    latents = keras.Input((3,), name="latents")
    rows = keras.layers.Dense(4, use_bias=False)(latents)
    pixels = keras.layers.Dense(196, activation="tanh")(keras.layers.Reshape((4, 1))(rows))  # of three dimensions
    model = keras.Model(latents, keras.layers.Reshape((28, 28, 1))(pixels))
    images, _ = sampler(model).draw(count=5, class_shares=UNIFORM, seed=0)
    drawn = np.random.default_rng(0).standard_normal((5, 3), np.float32)
    np.testing.assert_allclose(images, model(drawn), atol=1e-6)


def test_a_generator_of_bfloat16_draws_in_float32_as_one_of_float32_does(keras):
    from gan.training.networks import build_generator

    options = {"network": "conv", "latent_dim": 6, "units": [8, 4], "leaky_slope": 0.2, "seed": 0, "conditional": True}
    drawn = [
        sampler(build_generator(**options, precision=precision)).draw(count=20, class_shares=UNIFORM, seed=0)[0]
        for precision in ("float32", "bfloat16")
    ]
    assert np.array_equal(*drawn)
