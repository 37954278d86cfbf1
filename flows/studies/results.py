"""The results of a study as files: a table of runs, one of comparisons, metrics and plots for DVC, spreads for the gate."""

import statistics as plain

from flows.metrics import NOISE_SUFFIX
from flows.overrides import lookup
from flows.studies import statistics
from flows.studies.params import BASELINE
from flows.studies.spreads import FILE, without_seed
from flows.yaml_text import to_yaml
from gan.files import write_bytes, write_csv, write_json

RUNS, COMPARISONS, METRICS = "runs.csv", "comparisons.csv", "metrics.json"


def write(progress, folder, *, pictures):
    """Write the Progress of a study into `folder`. pictures: file names in it that `dvc plots` shows as well."""
    write_csv(folder / RUNS, run_rows(progress))
    if comparisons := comparison_rows(progress):
        write_csv(folder / COMPARISONS, comparisons)
    else:
        (folder / COMPARISONS).unlink(missing_ok=True)  # of a study that once compared something
    write_json(folder / METRICS, metric_values(progress))
    write_json(folder / FILE, _spreads(progress))
    write_bytes(folder / "dvc.yaml", _for_dvc(progress, pictures).encode())


def run_rows(progress):
    """A dict a run: variant, seed, the grid's axes, every metric, and the commit of its experiment."""
    done = [(name, one) for name, cells in progress.done.items() for one in cells]
    metrics = list(dict.fromkeys(metric for _, one in done for metric in one.metrics))
    axes = {axis: {name: axis_value(progress, axis, name) for name in progress.done} for axis in progress.study.params.grid}
    return [
        {
            "variant": name,
            "seed": one.cell.seed,
            **{f"{axis} (axis)" if axis in metrics else axis: values[name] for axis, values in axes.items()},
            **{metric: one.metrics.get(metric, "") for metric in metrics},
            "commit": one.record.commit,
        }
        for name, one in done
    ]


def comparison_rows(progress):
    """A dict a comparison, with its sentence and the correlation of the two variants over seeds."""
    rows = []
    for one in progress.comparisons:
        pair = statistics.correlation(*common(progress, one.variant, one.metric))
        rows.append(
            {
                "variant": one.variant,
                "metric": one.metric,
                "verdict": one.verdict,
                "seeds": one.seeds if one.verdict != "pending" else "",
                "difference": _cell(one.difference),
                "low": _cell(one.low),
                "high": _cell(one.high),
                "adjusted_p": _cell(one.p_value),
                "correlation_over_seeds": _cell(pair),
                "sentence": statistics.sentence(one, progress.rule),
            }
        )
    return rows


def metric_values(progress):
    """Variant -> metric -> its numbers, for `dvc metrics diff`."""
    found = {name: {} for name, done in progress.done.items() if done}
    for name in found:
        for metric in progress.study.params.metrics:
            one = statistics.estimate(progress.values(name, metric))
            numbers = {"seeds": one.count, "mean": one.mean, "deviation": one.deviation, "low": one.low, "high": one.high}
            found[name][metric] = {key: number for key, number in numbers.items() if number is not None}
    for one in progress.comparisons:
        if one.difference is not None:
            numbers = {"difference": one.difference, "difference_low": one.low, "difference_high": one.high}
            found[one.variant][one.metric] |= {key: number for key, number in numbers.items() if number is not None}
    return found


def axis_value(progress, axis, variant):
    """The value of a grid's axis that a variant has; the parameters say it where the variant is no point of the grid."""
    point = progress.study.variants[variant].point
    if point:
        return point[axis]
    return lookup(progress.study.values(variant), progress.study.params.grid[axis].parameters[0])


def common(progress, variant, metric):
    """Values of a variant and of the baseline over the seeds that both have."""
    sides = [{one.cell.seed: one.metrics[metric] for one in progress.done[name]} for name in (variant, BASELINE)]
    seeds = sorted(sides[0].keys() & sides[1].keys())
    return [[side[seed] for seed in seeds] for side in sides]


def _spreads(progress):
    """What `flows.studies.spreads.measured` reads: for each variant all of its metrics that have a deviation."""
    seed_parameter, found = progress.study.params.seeds.parameter, []
    for name, done in progress.done.items():
        if len(done) < 2:
            continue
        numbers = {
            metric: [one.metrics[metric] for one in done]
            for metric, value in done[0].metrics.items()
            if isinstance(value, int | float) and not metric.endswith(NOISE_SUFFIX) and all(metric in one.metrics for one in done)
        }
        found.append(
            {
                "variant": name,
                "seed_parameter": seed_parameter,
                "params": without_seed(progress.study.values(name), seed_parameter),
                "metrics": {
                    metric: {"seeds": len(values), "mean": plain.fmean(values), "deviation": plain.stdev(values)}
                    for metric, values in numbers.items()
                },
            }
        )
    return found


def _for_dvc(progress, pictures):
    """The text of a dvc.yaml that tells `dvc metrics` and `dvc plots` of the study."""
    charts = [
        {f"{progress.study.name} {metric}": {"x": "variant", "y": {RUNS: metric}, "template": "scatter", "title": metric}}
        for metric in progress.study.params.metrics
    ]
    return to_yaml({"metrics": [METRICS], "plots": [*charts, *pictures]})


def _cell(number):
    return "" if number is None else number
