"""The Fréchet inception distance and its extrapolation to infinitely many samples, in the features of any network.

Both are computed from sums that add up over groups of samples, so that leaving a group out costs nothing.
"""

import numpy as np

from gan.judge.blocks import side_by_side

# The samples are cut into so many equal parts, in turn, for the extrapolation: sizes n, n/2, n/4, n/5.
_PARTS = (1, 2, 4, 5)


class Gaussian:
    """A Gaussian with mean float64 [d] and covariance float64 [d, d], to measure others' distance from."""

    def __init__(self, mean, covariance):
        self.mean, self.covariance = mean, covariance
        values, vectors = np.linalg.eigh(covariance)
        self._root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T

    def frechet_distance(self, mean, covariance):
        """The squared Fréchet distance from the Gaussian with `mean` and `covariance`, in squared units of the features.

        |m - mean|^2 + tr(C + covariance - 2 (C covariance)^(1/2)) for this one's m and C: Dowson & Landau 1982; as the FID:
        Heusel et al. 2017, arXiv 1706.08500. The root's trace is taken as the sum of the square roots of the eigenvalues of
        C^(1/2) covariance C^(1/2), which is symmetric and so defined for singular covariances as well (fewer samples than
        features, constant images).
        """
        eigenvalues = np.linalg.eigvalsh(self._root @ covariance @ self._root)
        traces = np.trace(self.covariance) + np.trace(covariance) - 2 * np.sqrt(np.maximum(eigenvalues, 0)).sum()
        return float(max(np.sum((self.mean - mean) ** 2) + traces, 0))


def mean_and_covariance(features):
    """The mean float64 [d] and the unbiased covariance float64 [d, d] of `features` float [n, d], n >= 2."""
    return GroupedMoments([features]).of([0])


class GroupedMoments:
    """The sums behind mean and covariance, for each of several groups of samples float [n, d]."""

    def __init__(self, groups):
        groups = [features.astype(np.float64) for features in groups]
        self.counts = np.array([len(features) for features in groups])
        self.sums = np.stack([features.sum(axis=0) for features in groups])
        self.products = np.stack(side_by_side(lambda features: features.T @ features, groups))

    def of(self, chosen):
        """Mean and unbiased covariance of the union of the groups that `chosen` (indices or bools) selects."""
        count = self.counts[chosen].sum()
        mean = self.sums[chosen].sum(axis=0) / count
        return mean, (self.products[chosen].sum(axis=0) - count * np.outer(mean, mean)) / (count - 1)

    def distance(self, chosen, real):
        """The Fréchet distance of the chosen groups from the Gaussian `real`."""
        return real.frechet_distance(*self.of(chosen))

    def distance_at_infinity(self, chosen, real):
        """The distance that the chosen groups (indices int [k], k >= 5) would have if they held infinitely many samples.

        The FID is biased by a multiple of 1/n; the intercept of a straight line through the FIDs of ever smaller parts,
        over 1/n, is free of it: Chong & Forsyth 2020, arXiv 1911.07023, section 3. The parts of one size are disjoint and
        their FIDs averaged. The bias of the real set's own finite size stays. Close to 0 the result can be slightly negative.
        """
        inverse_sizes, distances = [], []
        for count in _PARTS:
            parts = np.array_split(chosen, count)
            inverse_sizes.append(np.mean([1 / self.counts[part].sum() for part in parts]))
            distances.append(np.mean([self.distance(part, real) for part in parts]))
        return float(np.polynomial.Polynomial.fit(inverse_sizes, distances, 1)(0))
