"""Euclidean distances between many vectors, block by block, so that no matrix of all pairs is ever held."""

import functools
import math

import numpy as np

from gan.judge.blocks import rows_in_blocks, side_by_side

_BLOCK_COLUMNS = 5000
# Groups of 50 among 10,000.
_DEALT = 200
# More leave fewer images to compare by pixels and cost more themselves.
_COMPONENTS = 100
# Of a squared length: a hundred times what single precision leaves out of it.
_ROUNDING = 1e-4


def squared_distances(a, b):
    """All squared distances float32 [n, m] between the rows of a float32 [n, d] and b float32 [m, d].

    Rounding can move one by about 1e-6 of the vectors' squared lengths, and so below 0.
    """
    # |a|^2 - 2 a.b + |b|^2 as one matrix product, five times as fast as adding the parts up over the large matrix
    a_columns = np.column_stack([-2 * a, np.einsum("ij,ij->i", a, a), np.ones(len(a), np.float32)])
    b_columns = np.column_stack([b, np.ones(len(b), np.float32), np.einsum("ij,ij->i", b, b)])
    return a_columns @ b_columns.T


def neighbour_radii(points, neighbours):
    """For each row of `points` float32 [n, d], the squared distance to its `neighbours`-th nearest other row: float32 [n]."""
    if len(points) <= neighbours:
        raise ValueError(f"expected more than {neighbours} points for {neighbours} neighbours, got {len(points)}")

    def radii(rows):
        squares = squared_distances(points[rows], points)
        return np.maximum(_kth_smallest(squares, neighbours), 0)  # place 0 is the point itself

    return np.concatenate(side_by_side(radii, rows_in_blocks(len(points))))


def _kth_smallest(rows, k):
    """The k-th smallest, from 0, of each row of `rows` [n, m]: [n].

    Each row is dealt into _DEALT groups. The k + 1 groups with the smallest minima hold the k + 1 smallest of all, so that the
    large array is read once in place of being sorted in part, which takes four times as long.
    """
    whole = rows.shape[1] // _DEALT * _DEALT
    if k < _DEALT and whole > 0:
        dealt = rows[:, :whole].reshape(len(rows), -1, _DEALT)
        groups = np.argpartition(dealt.min(axis=1), k, axis=1)[:, : k + 1]
        members = np.take_along_axis(dealt, groups[:, None, :], axis=2).reshape(len(rows), -1)
        rows = np.concatenate([members, rows[:, whole:]], axis=1)
    return np.partition(rows, k, axis=1)[:, k]


def nearest_squared_distances(images, training_images):
    """The squared distance over pixels from each of `images` to the nearest of `training_images`: float32 [n].

    Both are float32 [n, 28, 28, 1] in [-1, 1]; a black pixel instead of a white one adds 4.
    """
    return _nearest(_flat(images), _blocks(training_images))


class NearImages:
    """Tells which images have one of many others within a limit, over pixels: what `nearest_squared_distances` would say.

    Most images lie far beyond their limit, and a few principal components show it: the distance between two images is at least
    that of their projections and, squared and added, that of the lengths of what the projections leave out. Only the others
    are compared pixel by pixel.
    """

    def __init__(self, images):
        """`images` is float32 [m, 28, 28, 1] in [-1, 1], m >= 1, and may be mapped from a file; it is not copied."""
        self._images = images
        some = next(_blocks(images))
        self._mean = some.mean(axis=0)
        self._components = np.linalg.eigh((some - self._mean).T @ (some - self._mean))[1][:, -_COMPONENTS:]
        self._projected = [self._project(block) for block in _blocks(images)]

    def within(self, images, limits):
        """Whether `images` float32 [n, 28, 28, 1] have one closer than the squared distances `limits` float [n]: bool [n]."""
        projected = self._project(_flat(images))
        slack = _ROUNDING * np.einsum("ij,ij->i", projected, projected).max(initial=0)
        inside = _nearest(projected, self._projected) < limits + slack
        inside[inside] = nearest_squared_distances(images[inside], self._images) < limits[inside]
        return inside

    def _project(self, flat):
        """The principal components of `flat` and, as one more coordinate, the length of what they leave out."""
        centred = flat - self._mean
        components = centred @ self._components
        rest = np.einsum("ij,ij->i", centred, centred) - np.einsum("ij,ij->i", components, components)
        return np.column_stack([components, np.sqrt(np.maximum(rest, 0))])


def _nearest(points, blocks):
    """The squared distance from each of `points` float32 [n, d] to the nearest in any of the `blocks` float32 [m, d]."""
    nearest = np.full(len(points), np.inf, np.float32)

    def compare(rows, block):
        np.minimum(nearest[rows], squared_distances(points[rows], block).min(axis=1), out=nearest[rows])

    for block in blocks:
        side_by_side(functools.partial(compare, block=block), rows_in_blocks(len(points)))
    return nearest


def _blocks(images):
    return (_flat(images[start : start + _BLOCK_COLUMNS]) for start in range(0, len(images), _BLOCK_COLUMNS))


def _flat(images):
    return np.ascontiguousarray(images).reshape(len(images), math.prod(images.shape[1:]))
