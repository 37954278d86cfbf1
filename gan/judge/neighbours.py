"""Euclidean distances between many vectors, block by block, so that no matrix of all pairs is ever held."""

import numpy as np

_BLOCK_ROWS = 500
_BLOCK_COLUMNS = 5000


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
    radii = np.empty(len(points), np.float32)
    for start in range(0, len(points), _BLOCK_ROWS):
        squares = squared_distances(points[start : start + _BLOCK_ROWS], points)
        squares.partition(neighbours, axis=1)  # place 0 is the point itself
        radii[start : start + _BLOCK_ROWS] = np.maximum(squares[:, neighbours], 0)
    return radii


def nearest_squared_distances(images, training_images):
    """The squared distance over pixels from each of `images` to the nearest of `training_images`: float32 [n].

    Both are float32 [n, 28, 28, 1] in [-1, 1]; a black pixel instead of a white one adds 4.
    """
    flat = images.reshape(len(images), -1)
    nearest = np.full(len(images), np.inf, np.float32)
    for start in range(0, len(training_images), _BLOCK_COLUMNS):
        block = np.ascontiguousarray(training_images[start : start + _BLOCK_COLUMNS]).reshape(-1, flat.shape[1])
        for row in range(0, len(flat), _BLOCK_ROWS):
            rows = slice(row, row + _BLOCK_ROWS)
            np.minimum(nearest[rows], squared_distances(flat[rows], block).min(axis=1), out=nearest[rows])
    return nearest
