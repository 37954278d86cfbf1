"""Classes for images without labels: k-means on their pixels (Lloyd 1982, IEEE Transactions on Information Theory 28(2)).

A GAN that is told an image's cluster does better than one that is told nothing (Liu et al. 2020, arXiv 2006.10728), though it
is as unconditional: a generated image's cluster is read off its first latent, so that each comes up as often as among real ones.
In training, a batch's fakes have the clusters of its real images.
"""

from statistics import NormalDist

import numpy as np
from threadpoolctl import threadpool_limits

from gan.errors import DataError

ROUNDS = 30
_BLOCK_IMAGES = 5000
_LARGEST = 1 - 2.0**-23  # beyond it the inverse of the error function is infinite in float32


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
