"""Distances and neighbours against SciPy and scikit-learn."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from gan.judge.neighbours import nearest_squared_distances, neighbour_radii, squared_distances


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
