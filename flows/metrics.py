"""The numbers of metrics files: flat, and two runs' compared. What counts as more than noise is decided here alone."""

import json
from dataclasses import dataclass

from flows.studies.spreads import Spread
from flows.studies.statistics import Deviation, explained_together, rate_of, together
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
    p_value: float | None  # of the change, adjusted for all metrics that are looked at together; None without both noises
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
    """One flat dict of several metrics files, path -> bytes or None; a key that two files share gets its file's name in front."""
    flat = {}
    for path, content in contents.items():
        try:
            metrics = flatten(json.loads(content)) if content is not None else {}
        except ValueError:
            raise DataError(f"{path}: not valid JSON") from None
        for key, value in metrics.items():
            flat[f"{path}:{key}" if key in flat else key] = value
    return flat


def recorded_metrics(repository, one):
    """The numbers of the metrics files of a Version or a Record, one flat dict."""
    return merged({path: repository.read_at(one.commit, path) for path in one.metrics_files})


def deviation_of_difference(values, noises, spreads, rulers=(0.0, 0.0)):
    """The statistics.Deviation of the difference of a metric's two `values` if nothing differs but samples and seeds.

    noises: of drawing other samples, one standard deviation of each. spreads: the Spread over seeds of each. rulers: the spread
    over rulers of each, as a share; zeros where one ruler has measured both.
    """
    known = [Deviation(noise) for noise in noises]
    known += [Deviation(abs(share * value)) for share, value in zip(rulers, values, strict=True)]
    one, other = spreads
    if one == other:  # one measurement is no more certain by being used twice
        return together([*known, one.of(*values)])
    return together([*known, one.of(values[0]), other.of(values[1])])


def compare(metrics, previous, gate, *, measured=({}, {}), same_ruler=True):
    """A ComparedMetric for each metric of two flat dicts, in their order.

    gate: the GateSettings. Its spread over seeds counts for its own metric alone, since it was measured for no other. That metric
    was chosen beforehand, and is judged alone as the gate judges it. All others are judged together, at the same error rate.
    measured: metric -> Spread over seeds, as a study has measured it, of the runs with the parameters of `metrics` and with those
    of `previous`. Where only one of the two is known, the other run is taken to move as far; not for the gate's metric.
    same_ruler: whether one ruler has measured both.
    """
    names = [*metrics, *(name for name in previous if name not in metrics)]
    noises = {name: gate.noise if name == gate.metric else name + NOISE_SUFFIX for name in names}
    names = [name for name in names if name not in noises.values()]
    found, deviations = {}, {}
    for name in names:
        assumed = Spread(gate.seed_spread if name == gate.metric else 0.0)
        spreads = [one.get(name, assumed) for one in measured]
        values = [side.get(name) for side in (metrics, previous)]
        stated = [_number(side.get(noises[name])) for side in (metrics, previous)]
        moving, known = values, [name in one for one in measured]
        if name != gate.metric and any(known) and not all(known):
            side = known.index(True)
            spreads, moving = [spreads[side]] * 2, [values[side]] * 2
        found[name] = values, stated, spreads[0].share, moving[0]
        if None not in (*map(_number, values), *stated):
            rulers = (0.0, 0.0) if same_ruler or name != gate.metric else (gate.ruler_spread,) * 2
            deviations[name] = values[0] - values[1], deviation_of_difference(moving, stated, spreads, rulers)
    rate = rate_of(gate.margin)
    judged = explained_together({gate.metric: deviations.pop(gate.metric)}, rate) if gate.metric in deviations else {}
    judged |= explained_together(deviations, rate)
    return [_compared(name, *found[name], *judged.get(name, (None, None))) for name in names]


def _compared(name, values, noises, share, moving, explained, p_value):
    numbers = None not in map(_number, values)
    return ComparedMetric(
        metric=name,
        value=values[0],
        previous=values[1],
        noise=noises[0],
        previous_noise=noises[1],
        change=values[0] - values[1] if numbers else None,
        explained=explained,
        p_value=p_value,
        seeds=abs(share * moving) if share and _number(moving) is not None else None,
    )


def _number(value):
    return value if isinstance(value, int | float) else None
