import re
import subprocess
import sys
import typing
import zipfile

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("tensorflow")


@pytest.fixture
def generator():
    from gan.training.networks import build_generator

    return build_generator(latent_dim=100, units=[128, 128], leaky_slope=0.01, seed=0)


@pytest.fixture
def discriminator():
    from gan.training.networks import build_discriminator

    return build_discriminator(units=[128], leaky_slope=0.01, seed=1)


def test_published_parameter_counts(generator, discriminator):
    # 100*128+128 + 128*128+128 + 128*784+784 and 784*128+128 + 128*1+1
    assert generator.count_params() == 130_576
    assert discriminator.count_params() == 100_609


def test_shapes_and_ranges(generator, discriminator):
    latents = np.random.default_rng(0).normal(size=(5, 100)).astype(np.float32)
    images = generator(latents).numpy()
    assert images.shape == (5, 28, 28, 1)
    assert np.abs(images).max() <= 1
    probabilities = discriminator(images).numpy()
    assert probabilities.shape == (5, 1)
    assert ((probabilities > 0) & (probabilities < 1)).all()


def test_logits_share_the_discriminators_weights(discriminator):
    from gan.training.networks import logits_of

    images = np.random.default_rng(0).uniform(-1, 1, (4, 28, 28, 1)).astype(np.float32)
    before = logits_of(discriminator)(images).numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-before)), discriminator(images), rtol=1e-6)
    discriminator.set_weights([weight + 0.01 for weight in discriminator.get_weights()])
    assert not np.allclose(before, logits_of(discriminator)(images))


def test_initial_weights_are_kerass_defaults_and_follow_the_seed(generator):
    from gan.training.networks import build_generator

    kernel, bias = generator.get_layer("dense_0").get_weights()
    limit = np.sqrt(6 / (100 + 128))  # Glorot & Bengio 2010, equation 16
    assert np.abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)
    assert not bias.any()
    again, other = (build_generator(latent_dim=100, units=[128, 128], leaky_slope=0.01, seed=s) for s in (0, 1))
    np.testing.assert_array_equal(again.get_weights()[0], kernel)
    assert not np.array_equal(other.get_weights()[0], kernel)


def test_saved_models_are_equal_bytes_and_load_without_this_project(generator, tmp_path):
    from gan.keras_files import save_model

    for name in ("a.keras", "b.keras"):
        save_model(generator, tmp_path / name)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "b.keras"]
    latents = np.linspace(-2, 2, 300).reshape(3, 100).astype(np.float32)
    np.save(tmp_path / "latents.npy", latents)
    script = (
        "import keras, numpy as np; model = keras.models.load_model('a.keras', compile=False);"
        "np.save('images.npy', model(np.load('latents.npy')))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), generator(latents), atol=1e-6)


CONV_GENERATOR = {"network": "conv", "latent_dim": 64, "units": [48, 24], "leaky_slope": 0.2, "seed": 0}
CONV_DISCRIMINATOR = {"network": "conv", "units": [24, 48, 128], "leaky_slope": 0.2, "seed": 1}
SMALL_UNITS = {"dense": ([8], [8]), "conv": ([8, 4], [4, 8, 8])}  # of generator and discriminator


def test_every_network_that_a_parameter_can_name_is_tried_below():
    from gan.training.params import TrainParams

    assert tuple(SMALL_UNITS) == typing.get_args(TrainParams.model_fields["network"].annotation)


def test_conv_parameter_counts(tensorflow):
    from gan.training.networks import build_discriminator, build_generator

    # dense 74 -> 7*7*48, then 3x3 convolutions 48 -> 48, 48 -> 96, 24 -> 24, 24 -> 4, each with its biases
    generator = (74 * 2352 + 2352) + (9 * 48 * 48 + 48) + (9 * 48 * 96 + 96) + (9 * 24 * 24 + 24) + (9 * 24 * 4 + 4)
    # 3x3 from 4 to 24, 4x4 from 24 to 48, dense 7*7*48 -> 128 -> 10
    discriminator = (9 * 4 * 24 + 24) + (16 * 24 * 48 + 48) + (2352 * 128 + 128) + (128 * 10 + 10)
    assert build_generator(**CONV_GENERATOR, conditional=True).count_params() == generator == 244_828
    assert build_discriminator(**CONV_DISCRIMINATOR, classes=10).count_params() == discriminator == 321_842
    assert build_generator(**CONV_GENERATOR).count_params() == generator - 10 * 2352
    assert build_discriminator(**CONV_DISCRIMINATOR).count_params() == discriminator - 9 * 129


@pytest.mark.parametrize("layer", ["BatchNormalization", "Dropout"])
def test_a_layer_with_a_state_of_its_own_is_named(tensorflow, layer, monkeypatch):
    import keras

    from gan.training import networks

    stateful = {"BatchNormalization": keras.layers.BatchNormalization, "Dropout": lambda: keras.layers.Dropout(0.5)}[layer]
    leaky_relu = networks._Layers.leaky_relu
    monkeypatch.setattr(networks._Layers, "leaky_relu", lambda layers, x: stateful()(leaky_relu(layers, x)))
    common = {"units": [4], "leaky_slope": 0.2, "seed": 0}
    for build in (lambda: networks.build_generator(latent_dim=3, **common), lambda: networks.build_discriminator(**common)):
        with pytest.raises(ValueError, match=rf"tor: .* \({layer}\) keeps a state .* such as LayerNormalization"):
            build()


def test_a_generator_must_begin_with_a_dense_layer_and_give_images(tensorflow, monkeypatch):
    import keras

    from gan.training import networks

    def wide(layers, x, units):
        return keras.layers.Reshape((14, 56, 1))(layers.dense(x, 28 * 28))

    def convolved(layers, x, units):
        x = layers.convolution(layers.reshape(x, (5, 1, 1), name="column"), 1, 3)
        return keras.layers.Reshape((28, 28, 1))(layers.dense(layers.reshape(x, (5,), name="row"), 28 * 28))

    for generator, got in ((wide, r"\[5, 784\] and images \[n, 14, 56, 1\]"), (convolved, r"\[3, 3, 1, 1\] and images")):
        monkeypatch.setattr(networks, "_dense_generator", generator)
        with pytest.raises(ValueError, match=rf"network = 'dense': expected a generator that begins .* got first weights {got}"):
            networks.build_generator(latent_dim=5, units=[4], leaky_slope=0.2, seed=0)


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.bfloat16)])
@pytest.mark.parametrize("network", SMALL_UNITS)
def test_conditional_networks_heed_the_label(tensorflow, network, precision):
    from gan.training.networks import build_discriminator, build_generator, logits_of

    units = SMALL_UNITS[network]
    common = {"network": network, "leaky_slope": 0.2, "precision": precision}
    generator = build_generator(latent_dim=5, units=units[0], seed=0, conditional=True, **common)
    discriminator = logits_of(build_discriminator(units=units[1], seed=1, classes=10, **common))
    assert [(tensor.name, tensor.dtype) for tensor in generator.inputs] == [("latents", "float32"), ("labels", "int32")]
    latents = np.repeat(np.random.default_rng(0).normal(size=(1, 5)), 10, axis=0).astype(np.float32)
    images = generator([latents, np.arange(10, dtype=np.int32)]).numpy()
    assert images.shape == (10, 28, 28, 1) and images.dtype == np.float32
    assert np.abs(images).max() <= 1
    assert all(not np.array_equal(images[0], other) for other in images[1:])
    # the label picks one of ten scores: equal images, ten logits; equal labels, one logit
    logits = discriminator([np.repeat(images[:1], 10, axis=0), np.arange(10, dtype=np.int32)]).numpy()
    assert logits.shape == (10, 1) and logits.dtype == np.float32
    assert len(np.unique(logits)) == 10
    assert len(np.unique(discriminator([np.repeat(images[:1], 10, axis=0), np.full(10, 7, np.int32)]))) == 1
    assert all(weight.dtype == "float32" for weight in [*generator.weights, *discriminator.weights])


@pytest.mark.parametrize("network", SMALL_UNITS)
def test_the_first_latent_picks_the_cluster(tensorflow, network, tmp_path):
    import keras

    from gan.keras_files import load_model, save_model
    from gan.training.networks import build_generator

    units, _ = SMALL_UNITS[network]
    generator = build_generator(
        network=network, latent_dim=3, units=units, leaky_slope=0.2, seed=0, cluster_bounds=[-0.5, 0.0, 0.25]
    )
    assert [tensor.name for tensor in generator.inputs] == ["latents"]
    seen = keras.Model(generator.input, generator.get_layer("latents_and_cluster").output)
    latents = np.array([[-9, 7, 7], [-0.5, 7, 7], [-0.1, 7, 7], [0, 7, 7], [0.2, 7, 7], [0.25, 7, 7]], np.float32)
    np.testing.assert_array_equal(seen(latents)[:, :3], latents)
    np.testing.assert_array_equal(seen(latents)[:, 3:], 2 * np.eye(4)[[0, 1, 1, 2, 2, 3]])
    save_model(generator, tmp_path / "generator.keras")
    np.testing.assert_array_equal(load_model(tmp_path / "generator.keras")(latents), generator(latents))


def test_upsampling_puts_each_channel_at_its_own_pixel(tensorflow):
    import keras

    # Shi et al. 2016, equation 4: of the four channels, the first goes to the even rows' even columns, the second to their right
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    np.testing.assert_array_equal(np.asarray(keras.ops.depth_to_space(x, 2))[0, :, :, 0], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(keras.ops.space_to_depth(keras.ops.depth_to_space(x, 2), 2), x)


@pytest.mark.bfloat16
def test_a_saved_conv_model_loads_without_this_project(tensorflow, tmp_path):
    from gan.keras_files import save_model
    from gan.training.networks import build_generator

    options = {"network": "conv", "latent_dim": 6, "units": [8, 4], "leaky_slope": 0.2, "seed": 0}
    generator = build_generator(**options, conditional=True, precision="bfloat16")
    for name in ("a.keras", "b.keras"):
        save_model(generator, tmp_path / name)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:  # an id there is a memory address, which another process has not
        numbers = re.findall(r'"shared_object_id": (\d+)', archive.read("config.json").decode())
    assert set(numbers) == {"0"}
    latents = np.linspace(-2, 2, 60).reshape(10, 6).astype(np.float32)
    np.save(tmp_path / "latents.npy", latents)
    script = (
        "import keras, numpy as np; model = keras.models.load_model('a.keras', compile=False);"
        "np.save('images.npy', model([np.load('latents.npy'), np.arange(10, dtype=np.int32)]))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    expected = generator([latents, np.arange(10, dtype=np.int32)])
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), expected, atol=1e-2)  # bfloat16: threads round apart


@pytest.mark.parametrize("labels", [None, [3, 9]], ids=["unconditional", "conditional"])
def test_in_squares_the_networks_give_the_same_numbers(tensorflow, labels):
    from gan.training.networks import build_discriminator, build_generator, logits_of, on_squares

    generator = build_generator(**CONV_GENERATOR, conditional=labels is not None)
    d_logits = logits_of(build_discriminator(**CONV_DISCRIMINATOR, classes=0 if labels is None else 10))
    g_squares, d_squares = on_squares(generator, d_logits)
    more = [] if labels is None else [tensorflow.constant(labels)]
    latents = tensorflow.random.stateless_normal([2, 64], [1, 2])
    images = generator([latents, *more] if more else latents)
    squares = g_squares([latents, *more] if more else latents)
    assert squares.shape == (2, 14, 14, 4)
    np.testing.assert_array_equal(tensorflow.nn.depth_to_space(squares, 2), images)
    logits = d_logits([images, *more] if more else images)
    np.testing.assert_array_equal(d_squares([squares, *more] if more else squares), logits)
    for model, on in ((generator, g_squares), (d_logits, d_squares)):  # training hands the weights of one to the other
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), on.get_weights(), strict=True))


@pytest.mark.bfloat16
def test_layers_of_one_precision_need_no_casts_between_them(tensorflow):
    from gan.training.networks import build_discriminator, build_generator

    for model in (
        build_generator(**CONV_GENERATOR, precision="bfloat16"),
        build_discriminator(**CONV_DISCRIMINATOR, precision="bfloat16"),
    ):
        types = [layer.output.dtype for layer in model.layers]
        inner = types[types.index("bfloat16") :]
        assert inner == sorted(inner)  # bfloat16 from its first layer on, then float32 to the end
