"""Classes for images without labels: k-means on their pixels (Lloyd 1982, IEEE Transactions on Information Theory 28(2)).

A GAN that is told an image's cluster does better than one that is told nothing (Liu et al. 2020, arXiv 2006.10728), though it
is as unconditional: a generated image's cluster is read off its first latent, so that each comes up as often as among real ones.
"""

from statistics import NormalDist

import numpy as np
from threadpoolctl import threadpool_limits

from gan.errors import DataError

ROUNDS = 30
_BLOCK_IMAGES = 5000


def cluster(images, count, *, seed, threads):
    """The cluster in 0..count-1 of each image: int32 [n], for images uint8 [n, 28, 28, 1]; every cluster has at least one.

    It begins with `count` of the images, drawn by `seed`, and ends after ROUNDS rounds. Raises DataError if a cluster is left
    empty, as where fewer images differ.
    """
    if len(images) < count:
        raise DataError(f"train.clusters = {count}: there are only {len(images)} training images")
    pixels = images.reshape(len(images), -1)
    centres = pixels[np.random.default_rng(seed).choice(len(pixels), count, replace=False)].astype(np.float32)
    with threadpool_limits(threads):  # products may be split by the number of threads, and then round differently
        for _ in range(ROUNDS):
            labels = _nearest(pixels, centres)
            sizes = np.bincount(labels, minlength=count)
            sums = np.zeros_like(centres)
            for blocks in _blocks(pixels, labels):
                sums += _sums(*blocks, count)
            kept = sizes > 0  # an empty one stays where it is
            centres[kept] = sums[kept] / sizes[kept, None].astype(np.float32)
        labels = _nearest(pixels, centres)
    if not np.bincount(labels, minlength=count).all():
        raise DataError(f"train.clusters = {count}: a cluster has no image left; ask for fewer")
    return labels


def latent_bounds(labels):
    """The count - 1 numbers that part the standard-normal first latent into clusters 0, 1, ... as frequent as in `labels`."""
    shares = np.cumsum(np.bincount(labels))[:-1] / len(labels)
    return [NormalDist().inv_cdf(share) for share in shares.tolist()]


def _blocks(*arrays):
    for start in range(0, len(arrays[0]), _BLOCK_IMAGES):
        yield [array[start : start + _BLOCK_IMAGES] for array in arrays]


def _nearest(pixels, centres):
    """The centre float32 [count, d] nearest to each row of uint8 [n, d], as int32 [n]."""
    norms = (centres**2).sum(axis=1)
    found = [(norms - 2 * (block.astype(np.float32) @ centres.T)).argmin(axis=1) for (block,) in _blocks(pixels)]
    return np.concatenate(found).astype(np.int32)


def _sums(pixels, labels, count):
    """The sum of the rows with each label, float32 [count, d]; exact, since the sums of a block's bytes stay below 2^24."""
    members = (labels == np.arange(count)[:, None]).astype(np.float32)
    return members @ pixels.astype(np.float32)
