"""The explorer's numbers: networks that a page can compute, rounded weights, latents, directions and training images."""

import base64
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tensorflow import THREADS, start

start()  # here, since what follows imports TensorFlow

from gan.errors import DataError  # noqa: E402
from gan.generators import inputs_of  # noqa: E402
from gan.images import HALF_RANGE, to_unit_range  # noqa: E402
from gan.judge.classifier import build_classifier, build_judge  # noqa: E402
from gan.pages import latents  # noqa: E402
from gan.training.networks import build_generator  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CONV = {"latent_dim": 6, "units": [8, 4], "leaky_slope": 0.2, "seed": 0, "network": "conv"}
GENERATORS = {
    "dense": {"latent_dim": 10, "units": [16, 16], "leaky_slope": 0.01, "seed": 0},
    "conv, conditional": {**CONV, "conditional": True},
    "conv, clusters": {**CONV, "cluster_bounds": [-0.5, 0.5]},
    "conv, bfloat16": {**CONV, "conditional": True, "precision": "bfloat16"},
}


@pytest.fixture
def explorer(tensorflow):
    """The module, which imports TensorFlow: only when it has been started."""
    from gan.pages import explorer

    return explorer


@pytest.fixture
def portable(explorer):
    return explorer.portable


def small_judge():
    images = np.random.default_rng(0).uniform(-1, 1, (50, 28, 28, 1)).astype(np.float32)
    classifier = build_classifier(seed=0)
    norm = classifier.get_layer("norm")  # as after training: nothing is 0 or 1
    norm.set_weights([np.linspace(low, low + 1, 64, dtype=np.float32) for low in (0.5, -0.5, -1, 2)])
    return build_judge(classifier, images)[0]


def samples(generator, count=30):
    random = np.random.default_rng(1)
    drawn = random.standard_normal((count, inputs_of(generator).latent_dim), np.float32)
    return drawn, random.integers(0, 10, count).astype(np.int32)


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_described_generator_computes_what_keras_computes_in_float32(portable, kind):
    generator = build_generator(**GENERATORS[kind])
    exact = build_generator(**GENERATORS[kind] | {"precision": "float32"})
    biases = [weight + np.float32(0.1) if weight.ndim == 1 else weight for weight in generator.get_weights()]
    generator.set_weights(biases)
    exact.set_weights(biases)
    network = portable.describe(generator.output)
    drawn, labels = samples(generator)
    images = portable.compute(network, portable.inputs_of(network, drawn, labels))
    expected = np.asarray(exact(inputs_of(exact).arrange(drawn, labels), training=False))
    assert np.abs(images - expected.reshape(len(drawn), -1)).max() < 1e-5
    json.dumps(network.layers)


def test_a_described_judge_computes_what_keras_computes(portable):
    judge = small_judge()
    network = portable.describe(judge.output["probabilities"])
    images = np.random.default_rng(1).uniform(-1, 1, (20, 28, 28, 1)).astype(np.float32)
    expected = np.asarray(judge(images, training=False)["probabilities"])
    assert np.abs(portable.compute(network, images) - expected).max() < 1e-5
    assert [layer["kind"] for layer in network.layers if layer["kind"] in portable.WEIGHTED] == ["convolution"] * 4 + ["dense"]


def test_networks_that_no_page_computes_are_refused(tensorflow, portable):
    layers = tensorflow.keras.layers
    latents_in, labels = tensorflow.keras.Input((3,)), tensorflow.keras.Input((), dtype="int32")

    def refusal(output):
        with pytest.raises(portable.NotPortable) as caught:
            portable.describe(output)
        return str(caught.value)

    assert "(LayerNormalization) is not known here" in refusal(layers.LayerNormalization()(latents_in))
    assert "ends in sigmoid" in refusal(layers.Dense(2, activation="sigmoid")(latents_in))
    assert "has several inputs" in refusal(layers.Add()([latents_in, layers.Dense(3)(latents_in)]))
    assert "joins something" in refusal(layers.Concatenate()([latents_in, layers.Flatten()(layers.Embedding(10, 4)(labels))]))
    assert "weights, and a page holds 300,000 at most" in refusal(layers.Dense(80_000)(latents_in))
    image = layers.Reshape((1, 1, 3))(latents_in)
    assert "(Conv2D) is not known here" in refusal(layers.Conv2D(2, 1, padding="valid")(image))
    assert "(BatchNormalization) is not known here" in refusal(layers.BatchNormalization()(latents_in))


def test_weights_become_whole_steps_whose_size_the_largest_of_a_column_gives(portable):
    # columns of largest weights 2 and 0.4 in 4 levels: steps 0.5 and 0.1; the bias counts in the same steps and may be larger
    matrix = np.array([[2, 0.1], [-0.7, -0.4], [3, 0.06]], np.float32)
    whole, steps = portable._round(matrix, 4)
    assert whole.tolist() == [[4, 1], [-1, -4], [6, 1]]
    assert steps == pytest.approx([0.5, 0.1])


def test_rounding_keeps_every_image_within_the_tolerance_and_is_no_finer_than_it_must_be(portable):
    network = portable.describe(build_generator(**GENERATORS["dense"]).output)
    inputs = np.random.default_rng(0).standard_normal((100, 10), np.float32)
    errors, largest = [], []
    for tolerance in (1e-3, 1e-2, 1e-1):
        rounded, packed = portable.quantize(network, inputs, tolerance=tolerance)
        errors.append(np.abs(portable.compute(rounded, inputs) - portable.compute(network, inputs)).max())
        largest.append(max(np.abs(whole[:-1]).max() for whole, _ in packed))
        assert tolerance / 4 < errors[-1] <= tolerance
    assert largest[0] > 3 * largest[1] > 9 * largest[2]
    with pytest.raises(portable.NotPortable, match="change too much"):
        portable.quantize(network, inputs, tolerance=0)


def test_latents_are_standard_normal_and_those_of_another_seed_are_others():
    drawn = latents.latents_of(7, 20_000)
    assert drawn.dtype == np.float32
    assert abs(drawn.mean()) < 0.03 and abs(drawn.std() - 1) < 0.03 and np.isfinite(drawn).all()
    assert np.array_equal(latents.latents_of(7, 10), drawn[:10])
    assert abs(np.corrcoef(drawn[:5000], latents.latents_of(8, 5000))[0, 1]) < 0.05
    assert np.isfinite(latents.latents_of(0, 10)).all() and np.isfinite(latents.latents_of(2**32 - 1, 10)).all()


def test_every_point_of_the_plane_is_as_far_from_0_as_a_sample():
    corners = np.eye(3, dtype=np.float32)
    assert latents.plane_point(corners, 0, 0).tolist() == [1, 0, 0]
    # at the right edge the factors are 1 and 1.5: their length is the root of 3.25
    assert latents.plane_point(corners, 1, 0) == pytest.approx([1 / 3.25**0.5, 1.5 / 3.25**0.5, 0])
    points = latents.plane(corners, 3)
    assert np.linalg.norm(points, axis=1) == pytest.approx(np.ones(9))
    assert points[0] == pytest.approx(latents.plane_point(corners, -1, 1))  # the upper left corner comes first
    assert points[5] == pytest.approx(latents.plane_point(corners, 1, 0))


def test_the_first_direction_is_the_latent_that_changes_most(explorer, portable):
    # latent 2 moves half of the pixels, latent 0 a tenth of that, latent 1 nothing
    matrix = np.zeros((4, 784), np.float32)
    matrix[2, :392], matrix[0, 392:] = 0.3, 0.03
    network = portable.Network([{"kind": "dense", "inputs": 3, "outputs": 784}, {"kind": "tanh"}], [matrix])
    drawn = np.random.default_rng(0).standard_normal((2000, 3), np.float32)
    directions, shares = explorer._directions(network, drawn, np.zeros(2000, np.int32))
    assert directions[0] == pytest.approx([0, 0, 1], abs=0.05)
    assert abs(directions[1]) == pytest.approx([1, 0, 0], abs=0.05)
    assert shares[0] > 0.95 and shares[1] < 0.05
    assert np.linalg.norm(directions, axis=1) == pytest.approx(np.ones(3))


def test_a_memorized_training_image_is_among_those_shown(explorer, monkeypatch):
    monkeypatch.setattr(explorer, "_SEARCHED_SAMPLES", 6)
    monkeypatch.setattr(explorer, "_TRAINING_IMAGES", 2)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), np.uint8)
    # five samples: 7 twice, a noisy 3, a noisier 30 and the noisiest 12; then two checks, 7 again and 12
    noise = np.random.default_rng(1).normal(0, 1, (8, 28, 28, 1)) * np.array([0, 0, 5, 9, 30, 40, 0, 0])[:, None, None, None]
    near = pixels[[7, 7, 3, 30, 12, 12, 7, 12]] + noise
    shown, share = explorer._training_images(pixels, to_unit_range(np.clip(near, 0, 255).astype(np.uint8)))
    grays = np.rint(pixels.reshape(40, -1) / 17)
    assert np.array_equal(shown, grays[[7, 12]])  # met twice each
    assert share == 1


def test_the_nearest_is_that_of_an_exhaustive_search(explorer):
    random = np.random.default_rng(0)
    images, training = random.integers(0, 16, (20, 784), np.uint8), random.integers(0, 16, (5300, 784), np.uint8)
    places, squares = explorer._nearest(images, training)
    for image, place, square in zip(images.astype(int), places, squares, strict=True):
        distances = ((training - image) ** 2).sum(axis=1)
        assert (distances.argmin(), distances.min()) == (place, square)


def test_what_is_packed_is_what_was_rounded(explorer, portable):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 28, 28, 1), np.uint8)
    generator = build_generator(**GENERATORS["conv, conditional"])
    build = explorer.build(generator, small_judge(), pixels, np.arange(10.0), seed=3)
    again = explorer.build(generator, small_judge(), pixels, np.arange(10.0), seed=3)
    assert json.dumps(build.content) == json.dumps(again.content)
    content = json.loads(json.dumps(build.content, allow_nan=False))
    packed = zlib.decompress(base64.b64decode(content["bytes"]))

    def section(name, dtype):
        start, length = content["sections"][name]
        return np.frombuffer(packed[start : start + length], dtype)

    # the lowest bit is the sign: 0, -1, 1, -2 ... are 0, 1, 2, 3 ...
    codes = section("generator_low", np.uint8) + 256 * section("generator_high", np.uint8).astype(int)
    whole = np.where(codes % 2, -(codes + 1) // 2, codes // 2)
    steps, matrices = iter(section("generator_steps", "<f4")), []
    for layer in content["generator"]:
        if layer["kind"] in portable.WEIGHTED:
            rows = layer.get("size", 1) ** 2 * layer["inputs"] + 1
            count = rows * layer["outputs"]
            factors = np.array([next(steps) for _ in range(layer["outputs"])])
            matrices.append((whole[:count].reshape(rows, -1) * factors).astype(np.float32))
            whole = whole[count:]
    assert len(whole) == 0 and next(steps, None) is None
    network = portable.describe(generator.output)
    drawn, labels = samples(generator, 200)
    inputs = portable.inputs_of(network, drawn, labels)
    difference = np.abs(portable.compute(network.with_matrices(matrices), inputs) - portable.compute(network, inputs)).max()
    assert 0 < difference * HALF_RANGE <= 1
    assert section("training", np.uint8).size == content["training"]["count"] * 784 // 2
    assert section("directions", "<f4").size == 5 * 6
    assert build.pictures["plane"].shape == (252, 252) and build.pictures["direction-5"].shape == (84, 196)


@pytest.mark.slow(seconds=10)
def test_a_generator_of_bfloat16_is_explored_without_products_in_bfloat16(tmp_path):
    script = f"""
from gan.kernels import pin_numpy
from gan.runtime import start_tensorflow
pin_numpy()
start_tensorflow({THREADS})  # held to AVX2, as the stage is
import numpy as np
from gan.pages import explorer
from gan.training.networks import build_generator
from tests.pages.test_explorer import small_judge
generator = build_generator(**{GENERATORS["conv, bfloat16"]!r})
pixels = np.random.default_rng(0).integers(0, 256, (600, 28, 28, 1), np.uint8)
print(sorted(explorer.build(generator, small_judge(), pixels, np.zeros(10, np.float32), seed=1).pictures))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "'plane'" in done.stdout


def test_a_generator_that_no_page_computes_is_left_out_with_a_reason(tensorflow, explorer):
    keras = tensorflow.keras
    latents_in = keras.Input((3,), name="latents")
    x = keras.layers.LayerNormalization()(keras.layers.Dense(784, activation="tanh")(latents_in))
    generator = keras.Model(latents_in, keras.layers.Reshape((28, 28, 1))(x))
    pixels = np.zeros((10, 28, 28, 1), np.uint8)
    build = explorer.build(generator, small_judge(), pixels, np.ones(10), seed=0)
    assert list(build.content) == ["left_out"] and "LayerNormalization" in build.content["left_out"]
    assert build.pictures == {}
    nan = build_generator(**GENERATORS["dense"])
    nan.set_weights([np.full_like(weight, np.nan) for weight in nan.get_weights()])
    assert "other images" in explorer.build(nan, small_judge(), pixels, np.ones(10), seed=0).content["left_out"]


@pytest.mark.parametrize("damage", ["missing", "text", "no thresholds", "too few"])
def test_a_damaged_reference(explorer, tmp_path, damage):
    path = tmp_path / "reference.npz"
    if damage == "text":
        path.write_text("hello")
    elif damage == "no thresholds":
        np.savez(path, mean=np.zeros(3))
    elif damage == "too few":
        np.savez(path, copy_thresholds=np.zeros(3))
    with pytest.raises(DataError) as caught:
        explorer.read_copy_thresholds(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
