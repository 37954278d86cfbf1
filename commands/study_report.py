"""The report of a study: its files in data/studies/<name>/, with a page that shows runs, differences and samples."""

import csv
import math
import tempfile
from pathlib import Path

from commands.comparison import GENERATOR
from flows.revisions import Revision
from flows.studies import results, statistics
from flows.studies.params import BASELINE
from flows.studies.spreads import RESULTS
from gan.errors import DataError
from gan.files import write_bytes
from gan.pages.tables import name_of

PAGE, INTERVALS, SAMPLES = "index.html", "intervals.png", "samples.png"
_MOST_SAMPLES = 12  # variants whose images are drawn
_GRID = 8  # rows and columns of such a picture
_SEED = 0


def write(progress):
    """Write everything; returns the page's path. `progress`: with a run of the baseline at least."""
    from gan.pages import png, study, study_charts

    folder = RESULTS / progress.study.name
    charts = [_chart(progress, metric) for metric in progress.study.params.metrics]
    grids, same_inputs, missing = _draw(progress)
    write_bytes(folder / INTERVALS, study_charts.metrics_png(charts))
    if grids:
        from gan.pages.compare_pictures import in_a_row

        write_bytes(folder / SAMPLES, png.encode(in_a_row(list(grids.values()))))
    else:
        (folder / SAMPLES).unlink(missing_ok=True)  # of runs whose generators were here
    results.write(progress, folder, pictures=[INTERVALS, *([SAMPLES] if grids else [])])
    page = study.render(
        question=progress.study.params.question,
        name=progress.study.name,
        commit=progress.study.base[:12],
        runs=sum(map(len, progress.done.values())),
        compares=progress.study.compares,
        verdicts=[
            {"variant": variant, "metric": name_of(metric), "verdict": verdict, "sentence": said}
            for variant, metric, verdict, said in progress.sentences()
        ],
        charts=[{"title": chart.title, "svg": study_charts.metric_svg(chart)} for chart in charts],
        parallel=_parallel(progress, study_charts),
        rows=_rows(progress),
        notes=_notes(progress),
        samples=[{"variant": name, "uri": png.data_uri(png.encode(grid))} for name, grid in grids.items()],
        same_inputs=same_inputs,
        missing=missing,
        variants=[
            {"name": one.name, "set": one.set or "params.yaml", "overrides": one.overrides}
            for one in progress.study.variants.values()
        ],
    )
    write_bytes(folder / PAGE, page.encode())
    return folder / PAGE


def shown_estimate(one):
    """A mean with half its interval, as a text."""
    if one.low is None:
        return f"{one.mean:.6g}"
    digits = statistics.decimals((one.high - one.low) / 2)
    return f"{one.mean:.{digits}f} ± {(one.high - one.low) / 2:.{digits}f}"


def runs_written(study):
    """How many runs the files of the study of this name tell of."""
    path = RESULTS / study / results.RUNS
    return len(_read_csv(path)) if path.exists() else 0


def known_runs(progress):
    """(variant -> the metrics of each of its runs, (variant, metric) -> what is said): of the runs here, or of its files.

    Whichever has more runs. Who clones the project has the files of data/studies, and no record of a run.
    """
    folder = RESULTS / progress.study.name
    if runs_written(progress.study.name) <= sum(map(len, progress.done.values())):
        said = {(one.variant, one.metric): statistics.sentence(one, progress.rule) for one in progress.comparisons}
        return {name: [one.metrics for one in done] for name, done in progress.done.items()}, said
    runs, said = {}, {}
    for row in _read_csv(folder / results.RUNS):
        runs.setdefault(row["variant"], []).append({name: float(text) for name, text in row.items() if _is_number(text)})
    if (folder / results.COMPARISONS).exists():
        said = {(row["variant"], row["metric"]): row["sentence"] for row in _read_csv(folder / results.COMPARISONS)}
    return runs, said


def markdown(progress, runs, said, more=()):
    """A Markdown table with a row a variant: each metric from its lowest to its highest seed, and what the study says of it.

    runs, said: of `known_runs`. more: metrics beside those that decide. A cell is empty where a run has no such number.
    """
    deciding = list(progress.study.params.metrics)
    metrics = list(dict.fromkeys([*deciding, *more]))
    against = [f"{name_of(metric)} against {BASELINE}" for metric in deciding if progress.study.compares]
    rows = [["variant", "seeds", *map(name_of, metrics), *against]]
    for name, done in runs.items():
        ranges = [_range([one.get(metric) for one in done]) for metric in metrics]
        of_set = progress.study.variants[name].set if name == BASELINE else None
        shown = f"`{name}`: `{of_set}`" if of_set else f"`{name}`"
        rows.append([shown, str(len(done)), *ranges, *(said.get((name, metric), "") for metric in deciding if against)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]])


def _read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _is_number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _range(values):
    if not values or not all(isinstance(value, int | float) for value in values):
        return ""
    low, high = min(values), max(values)
    if low == high:
        return f"{low:.6g}"
    digits = statistics.decimals(high - low)
    return f"{low:.{digits}f} – {high:.{digits}f}"


def _chart(progress, metric):
    from gan.pages.study_charts import MetricChart, Row

    compared = {one.variant: one for one in progress.comparisons if one.metric == metric}
    rows = []
    for name, done in progress.done.items():
        if not done:
            continue
        values = progress.values(name, metric)
        mean, one = statistics.estimate(values), compared.get(name)
        rows.append(
            Row(
                variant=name,
                values=values,
                mean=mean.mean,
                interval=None if mean.low is None else (mean.low, mean.high),
                difference=one.difference if one else None,
                difference_interval=None if one is None or one.low is None else (one.low, one.high),
            )
        )
    smallest = progress.study.params.metrics[metric].smallest_difference if progress.study.compares else None
    return MetricChart(metric, rows, smallest)


def _parallel(progress, study_charts):
    grid = progress.study.params.grid
    metric, goal = next(iter(progress.study.params.metrics.items()))
    shown = [name for name, done in progress.done.items() if done and (name == BASELINE or progress.study.variants[name].point)]
    if not grid or len(shown) < 2:
        return None
    means = {name: statistics.estimate(progress.values(name, metric)).mean for name in shown}
    axes = {axis: [results.axis_value(progress, axis, name) for name in shown] for axis in grid}
    best = (min if goal.better == "lower" else max)(means, key=means.get)
    return study_charts.parallel_svg(axes, name_of(metric), means, best=best)


def _rows(progress):
    compared = {(one.variant, one.metric): one for one in progress.comparisons}
    rows = []
    for metric in progress.study.params.metrics:
        for name, done in progress.done.items():
            if not done:
                continue
            mean, one = statistics.estimate(progress.values(name, metric)), compared.get((name, metric))
            judged = one is not None and one.difference is not None
            digits = statistics.decimals(one.high - one.low) if judged and one.low is not None else None
            rows.append(
                {
                    "variant": name,
                    "metric": name_of(metric),
                    "runs": str(len(done)),
                    "mean": shown_estimate(mean),
                    "deviation": "" if mean.deviation is None else f"{mean.deviation:.2g}",
                    "difference": "" if not judged else f"{one.difference:+.{3 if digits is None else digits}f}",
                    "interval": "" if digits is None else f"{one.low:+.{digits}f} to {one.high:+.{digits}f}",
                    "p_value": "" if not judged or one.p_value is None else f"{one.p_value:.2g}",
                }
            )
    return rows


def _notes(progress):
    rule = progress.rule
    if not progress.study.compares:
        return [
            "What is said of the worst run holds whatever the distribution over seeds is (Wilks 1941), in 95 of 100 studies for "
            "all metrics together."
        ]
    times = "once" if len(rule.looks) == 1 else f"up to {len(rule.looks)} times, at {', '.join(map(str, rule.looks))} seeds"
    test = "Student's test on pairs of runs with the same seed" if rule.paired else "Welch's test"
    notes = [
        f"{test}, {rule.comparisons} comparisons, judged {times}. Better and worse are decided by Holm's procedure, at 5 % "
        f"for all of them together. The intervals are simultaneous ones: each stands at {100 * (1 - rule.interval_rate):.4g} %."
    ]
    pairs = [row for row in results.comparison_rows(progress) if row["correlation_over_seeds"] != ""]
    if pairs:
        said = ", ".join(f"{row['variant']} {row['correlation_over_seeds']:+.2f} ({name_of(row['metric'])})" for row in pairs)
        notes.append(f"Correlation with the baseline over equal seeds: {said}. Pairing gains where it is clearly above zero.")
    return notes


def _draw(progress):
    """(variant -> grid uint8 [h, w] of the generator of its first run, as `_drawn` says, a line for each that is not here)."""
    names = [name for name, done in progress.done.items() if done][:_MOST_SAMPLES]
    missing = []
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name in names:
            record = progress.done[name][0].record
            try:
                files[name] = Revision(progress.study.repository, record.name, record.commit).fetch(
                    GENERATOR, Path(folder) / name
                )
            except DataError as error:
                missing.append(str(error))
        grids, same_inputs, damaged = _drawn(files) if files else ({}, True, [])
    missing += damaged
    if len(progress.done) > _MOST_SAMPLES:
        missing.append(f"Images of the first {_MOST_SAMPLES} variants are shown.")
    return grids, same_inputs, missing


def _drawn(files):
    """(variant -> grid uint8 [h, w], whether all take the same inputs, a line for each damaged one) of variant -> generator."""
    from gan.runtime import start_tensorflow

    start_tensorflow(1)
    from gan.generators import inputs_of
    from gan.keras_files import load_model
    from gan.pages.pictures import grid, sample

    grids, inputs, damaged = {}, set(), []
    for name, file in files.items():
        try:
            generator = load_model(file)
            images = sample(generator, rows=_GRID, columns=_GRID, seed=_SEED)
        except DataError as error:
            damaged.append(f"{name}: {str(error).replace(str(file), GENERATOR)}")
            continue
        grids[name] = grid(images, columns=_GRID, scale=1)
        inputs.add((inputs_of(generator).latent_dim, inputs_of(generator).conditional))
    return grids, len(inputs) <= 1, damaged
