"""The kernel of KID, summed over pairs by groups, so that leaving a group out costs nothing.

The kernel is (x.y / d + 1)^3: Binkowski et al. 2018, arXiv 1801.01401, section 4.
"""

import numpy as np

from gan.judge.blocks import rows_in_blocks, side_by_side


class GroupedKernel:
    """Sums of the kernel over pairs: between groups of samples, and between each group and the real features."""

    def __init__(self, groups, real_features):
        self._counts = np.array([len(group) for group in groups])
        self._real_count = len(real_features)
        starts = np.cumsum(self._counts) - self._counts
        samples = np.concatenate(groups)

        def sums(group):
            squares = np.einsum("ij,ij->i", group, group, dtype=np.float64)
            bases = squares / group.shape[1] + 1
            return (
                (bases * bases * bases).sum(),  # not ** 3, which rounds by the processor
                np.add.reduceat(_kernel_column_sums(group, samples), starts),
                _kernel_column_sums(group, real_features).sum(),
            )

        diagonal, within, across = zip(*side_by_side(sums, groups), strict=True)
        self._diagonal, self._within, self._across = np.array(diagonal), np.stack(within), np.array(across)

    def mean_within(self, kept):
        """Mean over pairs of different samples of the kept groups."""
        count = self._counts[kept].sum()
        return (self._within[kept][:, kept].sum() - self._diagonal[kept].sum()) / (count * (count - 1))

    def mean_across(self, kept):
        """Mean over pairs of a sample of the kept groups and a real one."""
        return self._across[kept].sum() / (self._counts[kept].sum() * self._real_count)


def _kernel_column_sums(a, b):
    """Sums float64 [m] over the rows of a float32 [n, d] of (a.b / d + 1)^3, for each row of b float32 [m, d]."""
    sums = np.zeros(len(b))
    for rows in rows_in_blocks(len(a)):
        base = (a[rows] / np.float32(a.shape[1])) @ b.T
        base += 1
        sums += np.einsum("ij,ij,ij->j", base, base, base)
    return sums
