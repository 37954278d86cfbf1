"""How good a sample of digits is, measured in a judge's features against real digits; each number with its own noise.

The noise is the standard deviation that comes from drawing a sample of this size: the delete-a-group jackknife (Shao & Wu 1989,
Annals of Statistics 17(3)). The sample is dealt into GROUPS groups and every metric computed again without each of them. Unlike
a bootstrap it never repeats a sample, which nearest neighbours would take for a copy. It is not the noise of training again.
"""

import numpy as np

from gan.errors import DataError
from gan.images import CLASSES
from gan.judge.blocks import side_by_side
from gan.judge.frechet import Gaussian, GroupedMoments
from gan.judge.kernel import GroupedKernel
from gan.judge.neighbours import neighbour_radii, squared_distances
from gan.judge.params import MIN_SAMPLES

GROUPS = 20
# Few enough for a search among all training images to take a second.
COPY_SAMPLES = 2000
# A class is present if it is at least this much of what it is among real digits; a judge that errs puts a few in every class.
PRESENT_SHARE = 0.1
# Far below the noise; the digits beyond differ with the kind of processor.
_DECIMALS = 5


def measure(images, judged, reference, near_training_images):
    """Every metric of a sample and, as `<metric>_std`, its standard deviation: a dict of finite numbers.

    `images` is float32 [n, 28, 28, 1] in [-1, 1], n >= MIN_SAMPLES, in random order; `judged` is what the judge says of them
    (`gan.judge.classifier.outputs_of`); `near_training_images` is the `gan.judge.neighbours.NearImages` of the images that
    the reference describes. Raises DataError if the reference belongs to another judge.
    """
    _require_measurable(len(images), judged, reference)
    features, probabilities = judged["features"], judged["probabilities"]
    classes = probabilities.argmax(axis=1)
    return _values(
        {
            **_frechet_statistics(features, reference),
            "kid": _kernel_statistic(features, reference),
            **_neighbour_statistics(features, reference),
            **_class_statistics(classes, probabilities, reference),
            "copied_percent": _copy_statistic(images, classes, reference, near_training_images),
        }
    )


def measure_large_sample(judged, reference):
    """FID and FID-infinity alone, as `measure` would give them, under `fid_large_sample` and `fid_infinity_large_sample`.

    Nothing is compared in pairs here, so that the sample may be large. The arguments and errors are those of `measure`.
    """
    _require_measurable(len(judged["features"]), judged, reference)
    statistics = _frechet_statistics(judged["features"], reference)
    return _values({f"{name}_large_sample": statistic for name, statistic in statistics.items()})


def jackknife(statistic, groups=GROUPS):
    """The value of `statistic` and its standard deviation by the delete-a-group jackknife.

    `statistic` is a function of bool [groups], the groups to take into account.
    """
    kept = [np.arange(groups) != left_out for left_out in range(groups)]
    value, *without = side_by_side(statistic, [np.ones(groups, bool), *kept])
    without = np.array(without)
    deviation = np.sqrt((groups - 1) / groups * np.sum((without - without.mean()) ** 2))
    return float(value), float(deviation)


def _require_measurable(count, judged, reference):
    if count < MIN_SAMPLES:
        raise ValueError(f"expected at least {MIN_SAMPLES} samples, got {count}")
    if not all(np.isfinite(values).all() for values in judged.values()):
        raise ValueError("expected finite features and probabilities of the samples, got NaN or infinity")
    features = judged["features"]
    if features.shape[1:] != reference.mean.shape:
        raise DataError(
            f"the judge gives {features.shape[1]} features, its reference describes {len(reference.mean)}; "
            "run `dvc repro --force judge`, which makes both"
        )


def _deal(samples):
    """Deal the samples, in turn, into GROUPS groups."""
    return [samples[group::GROUPS] for group in range(GROUPS)]


def _mean_statistic(values, factor=1.0):
    """The mean of one value a sample, times `factor`."""
    counts = np.array([len(group) for group in _deal(values)])
    sums = np.array([group.sum(dtype=np.float64) for group in _deal(values)])
    return lambda kept: factor * sums[kept].sum() / counts[kept].sum()


def _values(statistics):
    """The value of each of a dict of statistics and, as `<name>_std`, its standard deviation."""
    values = {}
    for name, statistic in statistics.items():
        value, deviation = jackknife(statistic)
        values[name] = int(value) if name == "classes" else round(value, _DECIMALS)
        values[f"{name}_std"] = round(deviation, _DECIMALS)
    return values


def _frechet_statistics(features, reference):
    """FID and FID-infinity: gan.judge.frechet."""
    moments = GroupedMoments(_deal(features))
    real = Gaussian(reference.mean, reference.covariance)
    return {
        "fid": lambda kept: moments.distance(kept, real),
        "fid_infinity": lambda kept: moments.distance_at_infinity(np.flatnonzero(kept), real),
    }


def _kernel_statistic(features, reference):
    """KID: the unbiased estimate of the squared maximum mean discrepancy with the kernel (x.y / d + 1)^3, Binkowski et al. 2018,
    arXiv 1801.01401, section 4; over all pairs instead of many small blocks. Near 0 it can be negative.
    """
    kernels = GroupedKernel(_deal(features), reference.features)
    return lambda kept: kernels.mean_within(kept) + reference.kernel_mean - 2 * kernels.mean_across(kept)


def _neighbour_statistics(features, reference):
    """Precision and recall; density and coverage; with balls that reach to the k-th neighbour.

    Precision: the share of samples within a real image's ball; recall: of real images within a sample's ball (Kynkäänniemi et al.
    2019, arXiv 1904.06991, section 3). Density: how many real balls hold a sample, over k, on average (1 for equal
    distributions, above for samples that crowd where real images are dense); coverage: the share of real images whose ball
    holds a sample (Naeem et al. 2020, arXiv 2002.09797, section 3). When a group is left out, the others keep their balls.
    """
    inside = np.empty(len(features), bool)
    held_by = np.empty(len(features))
    covered = np.empty((GROUPS, len(reference.features)), bool)
    recalled = np.empty_like(covered)
    radii = neighbour_radii(features, int(reference.neighbours))

    def compare(group):
        members = slice(group, None, GROUPS)
        squares = squared_distances(features[members], reference.features)
        in_real_balls = squares <= reference.radii
        inside[members] = in_real_balls.any(axis=1)
        held_by[members] = in_real_balls.sum(axis=1)
        covered[group] = in_real_balls.any(axis=0)
        recalled[group] = (squares <= radii[members, None]).any(axis=0)

    side_by_side(compare, range(GROUPS))
    return {
        "precision_percent": _mean_statistic(inside, 100),
        "recall_percent": lambda kept: 100 * recalled[kept].any(axis=0).mean(),
        "density": _mean_statistic(held_by, 1 / reference.neighbours),
        "coverage_percent": lambda kept: 100 * covered[kept].any(axis=0).mean(),
    }


def _class_statistics(classes, probabilities, reference):
    """Digit classes present; total variation of the class histogram from the real one (half the sum of the absolute
    differences); the mean probability of the judged class."""
    counts = np.stack([np.bincount(group, minlength=CLASSES) for group in _deal(classes)])

    def shares(kept):
        return counts[kept].sum(axis=0) / counts[kept].sum()

    return {
        "classes": lambda kept: np.sum((shares(kept) > 0) & (shares(kept) >= PRESENT_SHARE * reference.class_shares)),
        "class_distance_percent": lambda kept: 50 * np.abs(shares(kept) - reference.class_shares).sum(),
        "confidence_percent": _mean_statistic(probabilities.max(axis=1), 100),
    }


def _copy_statistic(images, classes, reference, near_training_images):
    """The share of the first COPY_SAMPLES samples that are nearer to a training image than real test images of their class are.

    About 1 % for unseen real digits by the choice of the threshold, 100 % for copies. The three-sample test of Meehan et al.
    2020, arXiv 2004.05675, compares the same distances.
    """
    limits = reference.copy_thresholds[classes[:COPY_SAMPLES]]
    return _mean_statistic(near_training_images.within(images[:COPY_SAMPLES], limits), 100)
