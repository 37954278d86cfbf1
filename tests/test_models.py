import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("tensorflow")


@pytest.fixture
def generator():
    from gan.models import build_generator

    return build_generator(latent_dim=100, units=[128, 128], leaky_slope=0.01, seed=0)


@pytest.fixture
def discriminator():
    from gan.models import build_discriminator

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
    from gan.models import logits_of

    images = np.random.default_rng(0).uniform(-1, 1, (4, 28, 28, 1)).astype(np.float32)
    before = logits_of(discriminator)(images).numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-before)), discriminator(images), rtol=1e-6)
    discriminator.set_weights([weight + 0.01 for weight in discriminator.get_weights()])
    assert not np.allclose(before, logits_of(discriminator)(images))


def test_initial_weights_are_kerass_defaults_and_follow_the_seed(generator):
    from gan.models import build_generator

    kernel, bias = generator.get_layer("dense_0").get_weights()
    limit = np.sqrt(6 / (100 + 128))  # Glorot & Bengio 2010, equation 16
    assert np.abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)
    assert not bias.any()
    again, other = (build_generator(latent_dim=100, units=[128, 128], leaky_slope=0.01, seed=s) for s in (0, 1))
    np.testing.assert_array_equal(again.get_weights()[0], kernel)
    assert not np.array_equal(other.get_weights()[0], kernel)


def test_saved_models_are_equal_bytes_and_load_without_this_project(generator, tmp_path):
    from gan.saving import save_model

    for name in ("a.keras", "b.keras"):
        save_model(generator, tmp_path / name)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "b.keras"]
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:  # an id there is a memory address, which another process has not
        numbers = re.findall(r'"shared_object_id": (\d+)', archive.read("config.json").decode())
    assert set(numbers) == {"0"}
    latents = np.linspace(-2, 2, 300).reshape(3, 100).astype(np.float32)
    np.save(tmp_path / "latents.npy", latents)
    script = (
        "import keras, numpy as np; model = keras.models.load_model('a.keras', compile=False);"
        "np.save('images.npy', model(np.load('latents.npy')))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), generator(latents), atol=1e-6)
