"""Clusters of images, and the latents that stand for them."""

from statistics import NormalDist

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from gan.errors import DataError
from gan.training.clusters import _embedded, _k_means, cluster, latent_bounds, latents_in


def blobs(sizes, seed=0):
    """Images around as many different pictures as there are sizes, and which is which."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(30, 226, (len(sizes), 28, 28, 1))
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (pictures[labels] + rng.integers(-30, 30, (len(labels), 28, 28, 1))).astype(np.uint8), labels


def test_each_of_separate_pictures_is_a_cluster():
    images, pictures = blobs([200, 150, 100, 50])
    found = cluster(images, 4, seed=3)
    assert found.dtype == np.int32
    assert len(set(zip(found, pictures, strict=True))) == 4  # one to one


@pytest.mark.parametrize("count", [2, 3, 11])
def test_more_separate_pictures_than_clusters_are_shared_out(count):
    images, pictures = blobs([100] * 12)
    found = cluster(images, count, seed=0)
    assert set(found) == set(range(count))
    assert len(set(zip(found, pictures, strict=True))) == 12  # none is parted


def test_images_that_are_all_alike_but_for_a_few_have_clusters():
    images = np.zeros((400, 28, 28, 1), np.uint8)
    images[::100] = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1))
    assert set(cluster(images, 2, seed=0)) == {0, 1}


def test_a_cluster_follows_a_shape_that_changes_little_by_little():
    """A bar that slides from the left to the right above, and a rarer one below; by pixels the former falls in two."""
    from sklearn.cluster import KMeans

    below = np.arange(1200) % 6 == 0
    columns = np.random.default_rng(0).uniform(3, 25, 1200)
    across = np.exp(-((np.arange(28) - columns[:, None]) ** 2) / 4)
    rows = np.arange(28) // 14 == below[:, None]
    images = (across[:, None, :] * rows[:, :, None] * 255).astype(np.uint8)[..., None]
    by_pixels = KMeans(2, n_init=10, random_state=0).fit(images.reshape(1200, -1)).labels_
    assert len(set(zip(by_pixels, below, strict=True))) > 2
    found = cluster(images, 2, seed=0)
    assert len(set(zip(found, below, strict=True))) == 2


def test_the_rows_of_a_graph_are_those_of_scikit_learn():
    from sklearn.manifold import spectral_embedding

    random = np.random.default_rng(0)
    first, second = random.integers(0, 12, (2, 500))
    first, second = first[first != second], second[first != second]
    rows = _embedded(first, second, 12, 3)
    weights = np.zeros((12, 12))
    np.add.at(weights, (first, second), 1.0)
    theirs = spectral_embedding(weights + weights.T, n_components=3, drop_first=False, random_state=0)
    theirs *= np.sqrt((weights + weights.T).sum(axis=1))[:, None]  # it divides by that, for Shi and Malik's rows
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    np.testing.assert_allclose(rows @ rows.T, theirs @ theirs.T, atol=1e-4)  # the same but for signs


def test_a_graph_of_more_parts_than_dimensions_has_rows_of_numbers():
    first, second = np.arange(6), np.array([1, 0, 3, 2, 5, 4])
    lengths = np.linalg.norm(_embedded(first, second, 6, 1), axis=1)
    assert set(lengths.round(6)) <= {0.0, 1.0}


@pytest.mark.filterwarnings("ignore:One of the clusters is empty")
@pytest.mark.parametrize(("count", "different"), [(2, 300), (40, 300), (250, 300), (40, 30)])
def test_the_last_k_means_is_scipys_to_the_bit(count, different):
    points = np.asfortranarray(np.random.default_rng(0).standard_normal((different, count)))
    rows = points[np.arange(300) % different]
    with threadpool_limits(1), np.errstate(invalid="ignore"):  # where no further row differs, shares are 0 / 0
        ours = _k_means(rows, count, cdist(rows, rows, "sqeuclidean"), np.random.default_rng(1))
        theirs = kmeans2(rows, count, iter=50, minit="++", rng=np.random.default_rng(1))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_is_the_same_again_and_with_other_threads():
    images, _ = blobs([1500, 2000, 2500])
    with threadpool_limits(1):
        first = cluster(images, 5, seed=0)
    with threadpool_limits(2):
        np.testing.assert_array_equal(first, cluster(images, 5, seed=0))
    assert not np.array_equal(first, cluster(images, 5, seed=1))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 28, 28, 1), np.uint8), "train.clusters = 5: there are only 4 training images"),
        (np.zeros((40, 28, 28, 1), np.uint8), "train.clusters = 5: a cluster has no image left; ask for fewer"),
    ],
)
def test_too_many_clusters_end_in_one_line(images, message):
    with pytest.raises(DataError, match=message):
        cluster(images, 5, seed=0)


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
