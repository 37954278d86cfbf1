"""The Fréchet distance against hand-derived cases and SciPy, and the extrapolation against a known truth."""

import numpy as np
import pytest
import scipy.linalg

from gan.judge.frechet import Gaussian, GroupedMoments, mean_and_covariance


def random_covariance(random, size):
    root = random.standard_normal((size, size))
    return root @ root.T


def test_a_shift_alone_costs_its_squared_length():
    covariance = random_covariance(np.random.default_rng(0), 3)
    # equal covariances cancel: |(3, 4, 12)|^2 = 9 + 16 + 144 = 169
    assert Gaussian(np.zeros(3), covariance).frechet_distance(np.array([3.0, 4, 12]), covariance) == pytest.approx(169)


def test_commuting_covariances_cost_the_squared_difference_of_the_deviations():
    a, b = np.diag([1.0, 4, 9]), np.diag([4.0, 4, 0])
    # sum of (sqrt(a_i) - sqrt(b_i))^2 = (1 - 2)^2 + (2 - 2)^2 + (3 - 0)^2 = 10, though b is singular
    assert Gaussian(np.zeros(3), a).frechet_distance(np.zeros(3), b) == pytest.approx(10)
    assert Gaussian(np.zeros(3), b).frechet_distance(np.zeros(3), a) == pytest.approx(10)


def test_it_agrees_with_the_matrix_root_of_scipy():
    random = np.random.default_rng(1)
    (m, n), (a, b) = random.standard_normal((2, 6)), (random_covariance(random, 6), random_covariance(random, 6))
    expected = np.sum((m - n) ** 2) + np.trace(a + b - 2 * np.real(scipy.linalg.sqrtm(a @ b)))
    assert Gaussian(m, a).frechet_distance(n, b) == pytest.approx(expected)


def test_equal_sets_are_at_distance_zero_even_with_fewer_samples_than_features():
    features = np.random.default_rng(2).standard_normal((10, 64)).astype(np.float32)
    mean, covariance = mean_and_covariance(features)
    assert Gaussian(mean, covariance).frechet_distance(mean, covariance) == pytest.approx(0, abs=1e-6)


def test_moments_of_chosen_groups_are_those_of_their_union():
    features = np.random.default_rng(3).standard_normal((101, 5)).astype(np.float32) + 3
    moments = GroupedMoments([features[group::4] for group in range(4)])
    mean, covariance = moments.of(np.array([True, False, True, True]))
    union = np.concatenate([features[0::4], features[2::4], features[3::4]]).astype(np.float64)
    np.testing.assert_allclose(mean, union.mean(axis=0))
    np.testing.assert_allclose(covariance, np.cov(union.T))


def test_the_extrapolation_removes_the_bias_of_small_samples():
    random = np.random.default_rng(4)
    real = Gaussian(np.zeros(16), np.eye(16))
    plain, extrapolated = [], []
    for _ in range(30):  # samples of the very same distribution: the true distance is 0
        features = random.standard_normal((400, 16))
        moments = GroupedMoments([features[group::20] for group in range(20)])
        plain.append(moments.distance(np.arange(20), real))
        extrapolated.append(moments.distance_at_infinity(np.arange(20), real))
    assert np.mean(plain) > 0.1
    assert abs(np.mean(extrapolated)) < np.mean(plain) / 5
