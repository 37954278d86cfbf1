"""Every metric against a case derived by hand or an independent implementation; its noise against repeated draws."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import polynomial_kernel

from gan.errors import DataError
from gan.judge.metrics import GROUPS, jackknife, measure, measure_large_sample
from gan.judge.neighbours import NearImages, nearest_squared_distances
from gan.judge.params import MIN_SAMPLES
from gan.judge.reference import Reference, build_reference, copy_thresholds

DIM = 8
NEIGHBOURS = 5


def draw(count, *, seed, classes=range(10), spread=1.0, shift=0.0):
    """A sample of a made-up world: ten Gaussian classes of features, and images that are far apart unless they are copies."""
    random = np.random.default_rng(seed)
    centres = 4 * np.random.default_rng(1000).standard_normal((10, DIM))
    labels = random.choice(list(classes), count)
    features = (centres[labels] + spread * random.standard_normal((count, DIM)) + shift).astype(np.float32)
    probabilities = np.full((count, 10), 0.02, np.float32)
    probabilities[np.arange(count), labels] = 0.82
    images = random.uniform(-1, 1, (count, 28, 28, 1)).astype(np.float32)
    return images, {"features": features, "probabilities": probabilities}


@pytest.fixture(scope="module")
def training():
    return draw(3000, seed=0)


@pytest.fixture(scope="module")
def reference(training):
    _, judged = training
    classes = judged["probabilities"].argmax(axis=1)
    # images of noise are at a squared distance of about 2 * 784 / 3 = 523 from each other
    return build_reference(
        judged["features"],
        classes,
        sample_count=1000,
        neighbours=NEIGHBOURS,
        copy_thresholds=np.full(10, 100, np.float32),
    )


def measured(sample, reference, training):
    metrics = measure(*sample, reference, NearImages(training[0]))
    json.dumps(metrics, allow_nan=False)  # finite, and of types that JSON has
    assert list(metrics)[1::2] == [f"{name}_std" for name in list(metrics)[::2]]
    assert all(value >= 0 for name, value in metrics.items() if name.endswith("_std"))
    return metrics


def test_the_reference_set_itself_is_perfect(reference, training):
    images, judged = training
    sample = images[:1000], {name: values[:1000] for name, values in judged.items()}
    metrics = measured(sample, reference, training)
    assert metrics["fid"] < 1.0  # 1,000 of the 3,000
    assert metrics["precision_percent"] == metrics["recall_percent"] == metrics["coverage_percent"] == 100
    assert metrics["copied_percent"] == 100
    assert metrics["classes"] == 10
    assert metrics["confidence_percent"] == pytest.approx(82, abs=1e-3)


def test_another_sample_of_the_same_world_scores_within_its_noise(reference, training):
    metrics = measured(draw(1000, seed=1), reference, training)
    assert abs(metrics["kid"]) < 4 * metrics["kid_std"]
    assert metrics["density"] == pytest.approx(1, abs=0.1)
    assert metrics["coverage_percent"] == pytest.approx(100 * (1 - 0.5**NEIGHBOURS), abs=2)  # Naeem et al., eq. 7: 1 - 2^-k
    assert metrics["copied_percent"] == 0


def test_fid_of_a_shift_is_its_squared_length(reference, training):
    metrics = measured(draw(5000, seed=2, shift=3.0), reference, training)
    # 8 components of 3: 72, and what two finite samples of wide Gaussians differ by
    assert metrics["fid_infinity"] == pytest.approx(72, abs=5)


def test_the_distance_alone_is_the_one_among_all_metrics(reference, training):
    _, judged = sample = draw(700, seed=5, shift=1.0)
    metrics = measured(sample, reference, training)
    assert measure_large_sample(judged, reference) == {
        "fid_large_sample": metrics["fid"],
        "fid_large_sample_std": metrics["fid_std"],
        "fid_infinity_large_sample": metrics["fid_infinity"],
        "fid_infinity_large_sample_std": metrics["fid_infinity_std"],
    }


def test_precision_recall_density_and_coverage_agree_with_their_definitions(reference, training):
    _, judged = sample = draw(400, seed=3, spread=1.7, classes=range(8))
    real, fake = reference.features.astype(np.float64), judged["features"].astype(np.float64)
    across = cdist(fake, real)
    real_radii = np.sort(cdist(real, real), axis=1)[:, NEIGHBOURS]  # place 0 is the point itself
    fake_radii = np.sort(cdist(fake, fake), axis=1)[:, NEIGHBOURS]
    metrics = measured(sample, reference, training)
    assert metrics["precision_percent"] == pytest.approx(100 * (across <= real_radii).any(axis=1).mean(), abs=1e-4)
    assert metrics["recall_percent"] == pytest.approx(100 * (across <= fake_radii[:, None]).any(axis=0).mean(), abs=1e-4)
    assert metrics["density"] == pytest.approx((across <= real_radii).sum() / (NEIGHBOURS * 400), abs=1e-4)
    nearest_inside = across.min(axis=0) <= real_radii
    assert metrics["coverage_percent"] == pytest.approx(100 * nearest_inside.mean(), abs=1e-4)
    assert metrics["recall_percent"] < 90 and metrics["precision_percent"] < 99


def test_kid_agrees_with_the_unbiased_estimate_from_whole_kernels(reference, training):
    _, judged = sample = draw(403, seed=4, shift=0.3)
    real, fake = reference.features.astype(np.float64), judged["features"].astype(np.float64)

    def kernel(a, b):
        return polynomial_kernel(a, b, degree=3, gamma=1 / DIM, coef0=1)

    def mean_of_pairs(matrix):
        return (matrix.sum() - np.trace(matrix)) / (len(matrix) * (len(matrix) - 1))

    expected = mean_of_pairs(kernel(fake, fake)) + mean_of_pairs(kernel(real, real)) - 2 * kernel(fake, real).mean()
    assert measured(sample, reference, training)["kid"] == pytest.approx(expected, rel=1e-3)


def test_a_missing_class_is_counted_and_costs_coverage(reference, training):
    metrics = measured(draw(1000, seed=5, classes=range(9)), reference, training)
    assert metrics["classes"] == 9
    # a tenth is missing and spread over the rest: half of (0.1 + 9 / 90) = 10 %, plus the chance of a finite sample
    assert metrics["class_distance_percent"] == pytest.approx(10, abs=3)
    assert metrics["coverage_percent"] < 92


def test_a_class_counts_as_present_from_a_tenth_of_its_share_on(reference, training):
    for others, present in ((10, 10), (40, 9)):  # the last class has 22 % of its share, and 6 %
        classes = [*range(9)] * others + [9, 9]
        assert measured(draw(2000, seed=6, classes=classes), reference, training)["classes"] == present


def test_copied_training_images_are_found(reference, training):
    images, judged = draw(1000, seed=6)
    images[:250] = training[0][:250]
    random = np.random.default_rng(7)
    order = random.permutation(1000)
    sample = images[order], {name: values[order] for name, values in judged.items()}
    metrics = measured(sample, reference, training)
    assert metrics["copied_percent"] == 25
    assert 0.5 < metrics["copied_percent_std"] < 3  # binomial: sqrt(25 * 75 / 1000) = 1.37


def test_thresholds_leave_one_in_a_hundred_below_in_each_class():
    distances = np.arange(2000, dtype=np.float32)
    thresholds = copy_thresholds(distances, np.arange(2000) % 2)
    # class 0 has 0, 2, ..., 1998: the 1 % quantile lies at position 0.01 * 999 = 9.99, so at 19.98; class 1 one above
    np.testing.assert_allclose(thresholds[:2], [19.98, 20.98], rtol=1e-5)
    assert (thresholds[2:] == 0).all()


def test_about_one_in_a_hundred_unseen_images_counts_as_copied(training):
    def unseen(seed):
        """Images whose distance to the training images differs by class."""
        images, judged = draw(2000, seed=seed)
        classes = judged["probabilities"].argmax(axis=1)
        return images * (0.1 + 0.1 * classes[:, None, None, None]).astype(np.float32), judged, classes

    images, judged, classes = unseen(11)
    thresholds = copy_thresholds(nearest_squared_distances(images, training[0]), classes)
    reference = build_reference(judged["features"], classes, sample_count=500, neighbours=3, copy_thresholds=thresholds)
    assert 1 <= measured((images, judged), reference, training)["copied_percent"] < 1.5  # rounded up in each class
    assert measured(unseen(12)[:2], reference, training)["copied_percent"] == pytest.approx(1, abs=0.8)  # 2.5 standard deviations


@pytest.mark.parametrize("count", [MIN_SAMPLES, 1000])
def test_a_collapsed_sample_has_defined_metrics(reference, training, count):
    _, judged = draw(1, seed=8)
    images = np.full((count, 28, 28, 1), -1, np.float32)
    judged = {name: np.repeat(values, count, axis=0) for name, values in judged.items()}
    metrics = measured((images, judged), reference, training)
    assert metrics["classes"] == 1
    assert metrics["recall_percent"] == 0
    assert metrics["fid"] > 10 and metrics["fid_std"] < 1e-3


def test_fewer_samples_than_features_have_defined_metrics():
    random = np.random.default_rng(9)
    features = random.standard_normal((300, 128)).astype(np.float32)
    judged = {"features": features[:100], "probabilities": np.eye(10, dtype=np.float32)[np.arange(100) % 10]}
    reference = build_reference(
        features, np.arange(300) % 10, sample_count=200, neighbours=3, copy_thresholds=np.zeros(10, np.float32)
    )
    images = random.uniform(-1, 1, (100, 28, 28, 1)).astype(np.float32)
    assert measured((images, judged), reference, (images,))["fid"] > 0


def test_nan_and_too_few_samples_are_refused(reference, training):
    images, judged = draw(MIN_SAMPLES, seed=10)
    with pytest.raises(ValueError, match="at least 100 samples, got 99"):
        measure(images[:-1], judged, reference, NearImages(training[0]))
    with pytest.raises(ValueError, match="at least 100 samples, got 99"):
        measure_large_sample({name: values[:-1] for name, values in judged.items()}, reference)
    judged["features"][3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        measure(images, judged, reference, NearImages(training[0]))
    with pytest.raises(ValueError, match="NaN"):
        measure_large_sample(judged, reference)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(11).standard_normal(GROUPS)
    value, deviation = jackknife(lambda kept: values[kept].mean())
    assert value == pytest.approx(values.mean())
    assert deviation == pytest.approx(values.std(ddof=1) / np.sqrt(GROUPS))


@pytest.mark.slow(seconds=8)
def test_the_noise_is_that_of_drawing_again(reference, training):
    draws = [measure(*draw(600, seed=100 + index, spread=1.5), reference, NearImages(training[0])) for index in range(25)]
    for name in ("fid", "fid_infinity", "kid", "precision_percent", "density", "recall_percent", "coverage_percent"):
        spread = np.std([metrics[name] for metrics in draws], ddof=1)
        claimed = np.sqrt(np.mean([metrics[f"{name}_std"] ** 2 for metrics in draws]))
        # recall's is on the safe side: balls do not grow when a group is left out
        assert 0.5 < claimed / spread < (3 if name == "recall_percent" else 2), (name, claimed, spread)


def test_a_reference_is_saved_whole_and_with_the_same_bytes(reference, tmp_path):
    for name in ("a.npz", "b.npz"):
        reference.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    np.testing.assert_array_equal(Reference.load(tmp_path / "a.npz").features, reference.features)


def test_a_missing_or_damaged_reference_is_one_clear_error(reference, tmp_path):
    path = tmp_path / "reference.npz"
    with pytest.raises(DataError, match="no such file"):
        Reference.load(path)
    reference.save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="not a readable reference"):
        Reference.load(path)
    np.savez(path, mean=reference.mean)
    with pytest.raises(DataError, match="not a readable reference"):
        Reference.load(path)
