"""What the metrics need to know of real images: the file `reference.npz`."""

import dataclasses
import zipfile

import numpy as np

from gan.errors import DataError
from gan.files import replacing
from gan.images import CLASSES
from gan.judge.frechet import mean_and_covariance
from gan.judge.kernel import GroupedKernel
from gan.judge.neighbours import neighbour_radii

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
        with replacing(path) as temporary:
            np.savez(temporary, **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @classmethod
    def load(cls, path):
        """Read what `save` wrote; raises DataError if there is no such file or it is not a reference."""
        try:
            # opened here, since numpy leaves the file open when it turns out damaged
            with open(path, "rb") as file, np.load(file) as arrays:
                return cls(**arrays)
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; `dvc repro` makes it") from None
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a readable reference: {' '.join(str(error).split())}") from None


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
