"""Clusters of images: k-means against scikit-learn, and the latents that stand for them."""

from statistics import NormalDist

import numpy as np
import pytest

from gan.errors import DataError
from gan.training.clusters import cluster, latent_bounds, latents_in


def blobs(sizes, seed=0):
    """Images around as many different pictures as there are sizes, and which is which."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(30, 226, (len(sizes), 28, 28, 1))
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (pictures[labels] + rng.integers(-30, 30, (len(labels), 28, 28, 1))).astype(np.uint8), labels


def test_it_ends_where_scikit_learn_does_from_the_same_start():
    from sklearn.cluster import KMeans

    images, _ = blobs([200, 150, 100, 50])
    pixels = images.reshape(500, -1).astype(np.float64)
    start = pixels[np.random.default_rng(3).choice(500, 3, replace=False)]
    expected = KMeans(3, init=start, n_init=1, max_iter=30, tol=0, algorithm="lloyd").fit(pixels).labels_
    found = cluster(images, 3, seed=3, threads=1)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


def test_it_is_the_same_again_and_with_other_threads():
    images, _ = blobs([3000, 4000, 5000])
    first = cluster(images, 5, seed=0, threads=1)
    np.testing.assert_array_equal(first, cluster(images, 5, seed=0, threads=2))
    assert not np.array_equal(first, cluster(images, 5, seed=1, threads=2))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 28, 28, 1), np.uint8), "train.clusters = 5: there are only 4 training images"),
        (np.zeros((40, 28, 28, 1), np.uint8), "train.clusters = 5: a cluster has no image left; ask for fewer"),
    ],
)
def test_too_many_clusters_end_in_one_line(images, message):
    with pytest.raises(DataError, match=message):
        cluster(images, 5, seed=0, threads=1)


def test_standard_normals_fall_between_the_bounds_as_often_as_the_labels_do():
    labels = np.repeat([0, 1, 2], [100, 500, 400])
    bounds = latent_bounds(labels)
    # the normal's 10 % and 60 % points, from a table
    np.testing.assert_allclose(bounds, [-1.2816, 0.2533], atol=5e-5)
    drawn = np.searchsorted(bounds, np.random.default_rng(0).standard_normal(100_000), side="right")
    np.testing.assert_allclose(np.bincount(drawn) / 100_000, [0.1, 0.5, 0.4], atol=0.006)


def test_latents_are_moved_into_the_clusters_and_stay_standard_normal(tensorflow):
    random = np.random.default_rng(0)
    labels = random.choice(4, (10, 10_000), p=[0.0001, 0.4, 0.4, 0.1999]).astype(np.int32)
    bounds = latent_bounds(labels.ravel())
    latents = random.standard_normal((10, 10_000, 3), np.float32)
    latents[0, :6, 0] = [-9, -6, -1, 1, 6, 9]
    moved = latents_in(latents, labels, bounds=bounds).numpy()
    np.testing.assert_array_equal(moved[..., 1:], latents[..., 1:])
    assert (np.searchsorted(bounds, moved[..., 0], side="right") == labels).mean() > 0.9999  # but for rounding at the edges
    first = np.sort(moved[..., 0].ravel())
    assert np.isfinite(first).all()
    quantiles = np.array([0.001, 0.05, 0.3, 0.5, 0.9, 0.999])
    expected = [NormalDist().inv_cdf(quantile) for quantile in quantiles]
    np.testing.assert_allclose(np.quantile(first, quantiles), expected, atol=0.1)
    within = labels == 2  # the order within a cluster is kept
    assert np.corrcoef(latents[..., 0][within].argsort().argsort(), moved[..., 0][within].argsort().argsort())[0, 1] > 0.9999
