"""Classes for images without labels: spectral clustering of prototypes.

A GAN that is told an image's cluster does better than one that is told nothing (Liu et al. 2020, arXiv 2006.10728), though it
is as unconditional: a generated image's cluster is read off its first latent, so that each comes up as often as among real ones.
In training, a batch's fakes have the clusters of its real images.

Prototypes are k-means centres (Lloyd 1982, IEEE Transactions on Information Theory 28(2)) of the principal components of
images. Two are as near to each other as there are images that have them as nearest and second (Martinetz & Schulten 1994,
Neural Networks 7(3)); what hangs together by that is a cluster (Ng, Jordan & Weiss 2001, "On Spectral Clustering"). So a
cluster follows a digit through all the shapes that it blends into, where k-means on the pixels would cut it up and mix it with
others.
"""

import warnings
from statistics import NormalDist

import numpy as np
from threadpoolctl import threadpool_limits

from gan.errors import DataError

PROTOTYPES = 1000
ROUNDS = 7  # of k-means
_IMAGES_A_PROTOTYPE = 20  # at least, on average; there are fewer prototypes if need be
_COMPONENTS = 64
_MOST_ROUNDS = 50  # of the last k-means
_TRIES = 10  # of the last k-means, which depends on its start; the tightest counts
_BLOCK_IMAGES = 5000
_LARGEST = 1 - 2.0**-23  # beyond it the inverse of the error function is infinite in float32


def cluster(images, count, *, seed):
    """The cluster in 0..count-1 of each image: int32 [n], for images uint8 [n, 28, 28, 1]; every cluster has at least one.

    The prototypes begin with images that are drawn by `seed`. Raises DataError if a cluster is left empty, as where fewer images
    differ.
    """
    from scipy.cluster.vq import kmeans2
    from scipy.spatial.distance import cdist

    if len(images) < count:
        raise DataError(f"train.clusters = {count}: there are only {len(images)} training images")
    random = np.random.default_rng(seed)
    # products may be split by the number of threads, and then round differently; one takes three seconds for MNIST
    with threadpool_limits(1), warnings.catch_warnings():
        # it stays where it is; a prototype that is near no image is no node
        warnings.filterwarnings("ignore", "One of the clusters is empty")
        components = _principal_components(images)
        start = random.choice(len(images), max(count, min(PROTOTYPES, len(images) // _IMAGES_A_PROTOTYPE)), replace=False)
        prototypes, _ = kmeans2(components, components[start], iter=ROUNDS, minit="matrix")
        nodes, edges = np.unique(_two_nearest(components, prototypes), return_inverse=True)
        labels = np.zeros(len(images), np.int32)
        if len(nodes) >= count:
            rows = _embedded(*edges, len(nodes), count)
            distances = cdist(rows, rows, "sqeuclidean")
            tries = [_k_means(rows, count, distances, random) for _ in range(_TRIES)]
            _, of_nodes = min(tries, key=lambda found: np.square(rows - found[0][found[1]]).sum())
            labels = of_nodes[edges[0]].astype(np.int32)
    if not np.bincount(labels, minlength=count).all():
        raise DataError(f"train.clusters = {count}: a cluster has no image left; ask for fewer")
    return labels


def latent_bounds(labels):
    """The count - 1 numbers that part the standard-normal first latent into clusters 0, 1, ... as frequent as in `labels`."""
    shares = np.cumsum(np.bincount(labels))[:-1] / len(labels)
    return [NormalDist().inv_cdf(share) for share in shares.tolist()]


def latents_in(latents, labels, *, bounds):
    """`latents` with each first one moved into the cluster that `labels` names, at the same quantile of it.

    latents: float32 [..., d], standard normal; labels: int32 [...]; bounds: as `latent_bounds` gives them. If the labels are as
    frequent as in what the bounds were made of, the new latents are standard normal as well.
    """
    import tensorflow as tf

    shares = [0.0, *map(NormalDist().cdf, bounds), 1.0]
    low, high = (tf.gather(tf.constant(ends, tf.float32), labels) for ends in (shares[:-1], shares[1:]))
    quantile = 0.5 + 0.5 * tf.math.erf(latents[..., 0] * np.float32(0.5**0.5))
    signed = 2.0 * (low + (high - low) * quantile) - 1.0
    first = np.float32(2.0**0.5) * tf.math.erfinv(tf.clip_by_value(signed, -_LARGEST, _LARGEST))
    return tf.concat([first[..., None], latents[..., 1:]], axis=-1)


def _principal_components(images):
    """The images along the axes in which they differ most: float32 [n, _COMPONENTS]."""
    pixels = images.reshape(len(images), -1).astype(np.float32) / 255
    pixels -= pixels.mean(axis=0)
    _, axes = np.linalg.eigh(pixels.T @ pixels)
    return np.ascontiguousarray(pixels @ axes[:, -_COMPONENTS:])


def _two_nearest(points, prototypes):
    """Which prototype is nearest to each point, and which is next: int [2, n]."""
    norms = np.square(prototypes).sum(axis=1)
    found = []
    for start in range(0, len(points), _BLOCK_IMAGES):
        distances = norms - 2 * (points[start : start + _BLOCK_IMAGES] @ prototypes.T)
        first = distances.argmin(axis=1)
        np.put_along_axis(distances, first[:, None], np.inf, axis=1)
        found.append((first, distances.argmin(axis=1)))
    return np.concatenate(found, axis=1)


def _embedded(first, second, nodes, dimensions):
    """Where spectral clustering sees the nodes of a graph, whose edges are the pairs (first, second): [nodes, dimensions].

    Every node must have an edge. A row has length 1, or 0 where more than so many parts of the graph hang together by themselves.
    """
    from scipy.linalg import eigh

    weights = np.bincount(first * nodes + second, minlength=nodes**2).reshape(nodes, nodes).astype(np.float64)
    weights += weights.T
    scale = weights.sum(axis=1) ** -0.5
    _, vectors = eigh(weights * scale[:, None] * scale, subset_by_index=[nodes - dimensions, nodes - 1])
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float64).tiny)


def _k_means(rows, count, distances, random):
    """(centres, labels), to the bit as SciPy's kmeans2(rows, count, iter=50, minit="++", rng=random) has them, and far sooner.

    That one measures all distances anew for each of its first centres, and goes on where nothing changes any more.
    distances: squared, float64 [n, n], of the rows from each other.
    """
    from scipy.cluster.vq import kmeans2

    # k-means++ (Arthur & Vassilvitskii 2007, SODA): the next one is a row far from those before, as chance has it
    first = [random.integers(len(rows))]
    nearest = distances[first[0]]
    while len(first) < count:
        first.append(np.searchsorted((nearest / nearest.sum()).cumsum(), random.uniform()))
        nearest = np.minimum(nearest, distances[first[-1]])
    centres = rows[first]
    for _ in range(_MOST_ROUNDS):
        before = centres
        centres, labels = kmeans2(rows, before, minit="matrix", iter=1)
        if np.array_equal(centres, before):
            break
    return centres, labels
