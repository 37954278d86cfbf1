"""What the metrics need to know of real images: the file `reference.npz`."""

import dataclasses

import numpy as np

from gan.arrays import load_archive, save_archive
from gan.errors import DataError
from gan.images import CLASSES
from gan.judge.frechet import mean_and_covariance
from gan.judge.kernel import GroupedKernel
from gan.judge.neighbours import neighbour_radii
from gan.judge.params import MIN_SAMPLES

# A sample counts as a copy if it is nearer to a training image than all but this share of the real test images of its class.
COPY_QUANTILE = 0.01


@dataclasses.dataclass(frozen=True)
class Reference:
    """What the metrics need to know of a set of real images and of the judge's features of them."""

    mean: np.ndarray  # float64 [d], of all the set
    covariance: np.ndarray  # float64 [d, d], of all the set
    class_shares: np.ndarray  # float64 [10], of all the set, as the judge sees them
    features: np.ndarray  # float32 [m, d], of a random subset: KID and neighbours; m is also the size of the samples to compare
    radii: np.ndarray  # float32 [m], squared distance to the k-th neighbour within the subset
    neighbours: np.ndarray  # int64 [], k
    kernel_mean: np.ndarray  # float64 [], over pairs of different members of the subset
    copy_thresholds: np.ndarray  # float32 [10], squared distance over pixels

    def save(self, path):
        """Write the reference to the .npz file at `path`, whole or not at all; equal references give equal bytes."""
        save_archive(path, **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @classmethod
    def load(cls, path):
        """Read what `save` wrote; raises DataError if there is no such file or it is not a reference."""
        arrays = load_archive(path, "reference")
        names = [field.name for field in dataclasses.fields(cls)]
        if sorted(arrays) != sorted(names):
            raise DataError(f"{path}: not a readable reference: expected {', '.join(names)}, got {', '.join(arrays)}")
        reference = cls(**arrays)
        reference._require_sound(path)
        return reference

    def _require_sound(self, path):
        """Raise DataError unless every array has the shape, the type and the range that the class says."""
        dimension = self.mean.shape[-1] if self.mean.ndim else 0
        count = len(self.radii) if self.radii.ndim else 0
        expected = {
            "mean": (np.float64, (dimension,)),
            "covariance": (np.float64, (dimension, dimension)),
            "class_shares": (np.float64, (CLASSES,)),
            "features": (np.float32, (count, dimension)),
            "radii": (np.float32, (count,)),
            "neighbours": (np.int64, ()),
            "kernel_mean": (np.float64, ()),
            "copy_thresholds": (np.float32, (CLASSES,)),
        }
        for name, (dtype, shape) in expected.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape or array.size == 0:
                shown = f"{np.dtype(dtype)} {list(shape)}"
                raise DataError(f"{path}: expected {name} {shown}, got {array.dtype} {list(array.shape)}")
            if not np.isfinite(array).all():
                raise DataError(f"{path}: {name} holds NaN or infinity")
        shares = self.class_shares
        for is_right, what in (
            (count >= MIN_SAMPLES, f"features of at least {MIN_SAMPLES} images"),
            (0 < self.neighbours < count, f"neighbours from 1 to {count - 1}"),
            (shares.min() >= 0 and abs(shares.sum() - 1) < 1e-6, "class_shares from 0 to 1 with the sum 1"),
            (self.radii.min() >= 0, "radii of 0 or more"),
            (self.copy_thresholds.min() >= 0, "copy_thresholds of 0 or more"),
            (np.allclose(self.covariance, self.covariance.T) and self.covariance.diagonal().min() >= 0, "a covariance"),
        ):
            if not is_right:
                raise DataError(f"{path}: not a readable reference: expected {what}")


def build_reference(features, classes, *, sample_count, neighbours, copy_thresholds):
    """Describe real images by their `features` float32 [n, d] and judged `classes` int [n], in random order.

    The first `sample_count` stand for the set where pairs are compared. `copy_thresholds` is what `copy_thresholds` returns.
    """
    mean, covariance = mean_and_covariance(features)
    subset = features[:sample_count]
    kernels = GroupedKernel([subset], subset)
    return Reference(
        mean=mean,
        covariance=covariance,
        class_shares=np.bincount(classes, minlength=CLASSES) / len(classes),
        features=subset,
        radii=neighbour_radii(subset, neighbours),
        neighbours=np.array(neighbours),
        kernel_mean=np.array(kernels.mean_within([True])),
        copy_thresholds=copy_thresholds,
    )


def copy_thresholds(squared_distances_to_training, classes):
    """For each class, the squared distance below which COPY_QUANTILE of the real test images lie: float32 [10].

    The arguments are the test images' distances to their nearest training image, float32 [n], and their judged classes, int [n].
    By class, since a one is nearer to some other one than an eight is to any eight. A class without a test image gets 0.
    """
    by_class = [squared_distances_to_training[classes == label] for label in range(CLASSES)]
    return np.array([np.quantile(values, COPY_QUANTILE) if len(values) else 0 for values in by_class], np.float32)
