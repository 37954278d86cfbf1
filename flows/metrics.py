"""The numbers of metrics files: flat, and two runs' compared. What counts as more than noise is decided here alone."""

import json
import math
from dataclasses import dataclass

from gan.errors import DataError

NOISE_SUFFIX = "_std"  # the noise of the metric x stands under x_std: one standard deviation of drawing another sample


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of two runs."""

    metric: str
    value: float | str | None  # None where a run does not have it
    previous: float | str | None
    noise: float | None  # one standard deviation of drawing another sample; None where the file states none
    previous_noise: float | None
    change: float | None  # value - previous, of numbers
    explained: float | None  # a change that noise explains: no larger than this; None without both noises
    seeds: float | None  # by how much another training seed moves the value, one standard deviation; None where not measured

    @property
    def beyond_noise(self):
        """Whether the change is more than noise explains; None where nobody can tell."""
        return None if self.change is None or self.explained is None else abs(self.change) > self.explained


def flatten(value, prefix=""):
    """Nested dicts of a metrics file as one dict with dotted names; lists are left out."""
    if not isinstance(value, dict):
        return {prefix: value} if isinstance(value, int | float | str) else {}
    flat = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def merged(contents):
    """One flat dict of several metrics files, path -> bytes; a key that two files share gets its file's name in front."""
    flat = {}
    for path, content in contents.items():
        try:
            metrics = flatten(json.loads(content))
        except ValueError:
            raise DataError(f"{path}: not valid JSON") from None
        for key, value in metrics.items():
            flat[f"{path}:{key}" if key in flat else key] = value
    return flat


def with_spreads(noise, value, spreads):
    """One standard deviation of a metric's `value`: of drawing another sample, `noise`, and each of `spreads`, shares of it."""
    return math.hypot(noise, *(spread * value for spread in spreads))


def explained_by_noise(noise, previous_noise, margin):
    """The largest difference of two runs that noise explains: `margin` standard deviations of a difference."""
    return margin * math.hypot(noise, previous_noise)


def compare(metrics, previous, gate, *, measured=({}, {}), same_ruler=True):
    """A ComparedMetric for each metric of two flat dicts, in their order.

    gate: the GateSettings. Its margin holds for every metric, its spread over seeds for its own metric alone, since it was
    measured for no other.
    measured: metric -> spread over seeds as a share of the metric, as a study has measured it, of the runs with the parameters
    of `metrics` and with those of `previous`.
    same_ruler: whether the same judge has measured both. If not, the gate's spread over judges counts, for its own metric.
    """
    names = [*metrics, *(name for name in previous if name not in metrics)]
    noises = {name: gate.noise if name == gate.metric else name + NOISE_SUFFIX for name in names}
    found = []
    for name in (name for name in names if name not in noises.values()):
        assumed = gate.seed_spread if name == gate.metric else 0.0
        spreads = [one.get(name, assumed) for one in measured]
        ruler = 0.0 if same_ruler or name != gate.metric else gate.ruler_spread
        found.append(_compare_one(name, noises[name], metrics, previous, spreads, ruler, gate.margin))
    return found


def _compare_one(name, noise_name, metrics, previous, spreads, ruler, margin):
    values = metrics.get(name), previous.get(name)
    noises = _number(metrics.get(noise_name)), _number(previous.get(noise_name))
    numbers = None not in map(_number, values)
    explained = None
    if numbers and None not in noises:
        both = [with_spreads(noise, value, [spread, ruler]) for noise, value, spread in zip(noises, values, spreads, strict=True)]
        explained = explained_by_noise(*both, margin)
    return ComparedMetric(
        metric=name,
        value=values[0],
        previous=values[1],
        noise=noises[0],
        previous_noise=noises[1],
        change=values[0] - values[1] if numbers else None,
        explained=explained,
        seeds=abs(spreads[0] * values[0]) if spreads[0] and _number(values[0]) is not None else None,
    )


def _number(value):
    return value if isinstance(value, int | float) else None
