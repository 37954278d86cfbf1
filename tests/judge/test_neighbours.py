"""Distances and neighbours against SciPy and scikit-learn."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from gan.judge.neighbours import NearImages, nearest_squared_distances, neighbour_radii, squared_distances


def points(count, size=64, seed=0):
    return np.random.default_rng(seed).standard_normal((count, size), np.float32)


def test_squared_distances_agree_with_scipy():
    a, b = points(70), points(30, seed=1)
    np.testing.assert_allclose(squared_distances(a, b), cdist(a, b, "sqeuclidean"), rtol=1e-5)


def test_radii_reach_to_the_kth_other_point_across_blocks():
    a = points(1203, 5)
    distances, _ = NearestNeighbors(n_neighbors=5).fit(a).kneighbors()
    np.testing.assert_allclose(np.sqrt(neighbour_radii(a, 5)), distances[:, 4], rtol=1e-4)


def test_radii_of_equal_points_are_zero():
    assert neighbour_radii(np.full((50, 3), 7, np.float32), 5).max() < 1e-3


def test_too_few_points_for_k_neighbours_are_an_error():
    with pytest.raises(ValueError, match="expected more than 5 points for 5 neighbours, got 5"):
        neighbour_radii(points(5), 5)


def test_the_nearest_training_image_is_found_in_any_block():
    random = np.random.default_rng(2)
    training = random.uniform(-1, 1, (5500, 28, 28, 1)).astype(np.float32)
    images = random.uniform(-1, 1, (3, 28, 28, 1)).astype(np.float32)
    images[1] = training[5400]  # a copy, in the second block
    expected = cdist(images.reshape(3, -1), training.reshape(5500, -1), "sqeuclidean").min(axis=1)
    nearest = nearest_squared_distances(images, training)
    np.testing.assert_allclose(nearest, expected, rtol=1e-4, atol=1e-2)
    assert nearest[1] < 0.01 < 100 < nearest[0]


@pytest.mark.parametrize("count", [150, 200, 399, 1203])
def test_radii_are_those_of_a_sort(count):
    a = np.round(points(count, 3, seed=3), 1)  # many ties
    expected = np.sort(squared_distances(a[:400], a), axis=1)[:, 7]
    np.testing.assert_array_equal(neighbour_radii(a, 7)[:400], np.maximum(expected, 0))


@pytest.mark.parametrize("training_count", [1, 30, 6000])
def test_near_images_are_those_that_a_search_of_all_finds(training_count):
    random = np.random.default_rng(4)
    shapes = np.kron(random.uniform(-1, 1, (20, 7, 7)), np.ones((4, 4)))[..., None]  # smooth, like digits

    def draw(count):
        noisy = shapes[random.integers(20, size=count)] + random.uniform(-0.3, 0.3, (count, 28, 28, 1))
        return noisy.clip(-1, 1).astype(np.float32)

    training, images = draw(training_count), draw(700)
    images[3] = training[-1]
    distances = nearest_squared_distances(images, training)
    limits = (distances * random.choice([0.999, 1.001], 700)).astype(np.float32)  # close, but not as close as rounding
    limits[:4] = 0, np.inf, 0, 1e-2
    within = NearImages(training).within(images, limits)
    np.testing.assert_array_equal(within, distances < limits)
    assert list(within[:4]) == [False, True, False, True]
    assert not NearImages(training).within(images, np.full(700, -1)).any()
