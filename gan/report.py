"""The report: one page that shows a run, with nothing to load. Reading its inputs, drawing its curves, filling its template."""

import base64
import csv
import dataclasses
import io
import json
import math
import re
from pathlib import Path

import jinja2
import markupsafe
import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from gan.errors import DataError

TEMPLATE = "report.html.j2"
HISTORY_COLUMNS = ("step", "g_loss", "d_loss", "d_accuracy")
LOG_COLUMNS = HISTORY_COLUMNS[1:]

# The lecture's training parameters, as the section `train` names them.
PUBLISHED_PARAMS = {
    "steps": 5001,
    "batch_size": 300,
    "network": "dense",
    "conditional": False,
    "clusters": 0,
    "latent_dim": 100,
    "generator_units": [128, 128],
    "discriminator_units": [128],
    "leaky_slope": 0.01,
    "loss": "non_saturating",
    "update_order": "split",
    "r1_gamma": 0.0,
    "r2_gamma": 0.0,
    "generator_adam": {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "update_clip": 0.0},
    "discriminator_adam": {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "update_clip": 0.0},
    "warm_up_steps": 0,
    "constant_rate_share": 1.0,
    "final_rate_share": 1.0,
    "ema_decay": 0.0,
    "compute_precision": "float32",
}
# what the lecture does not say, what has no effect without penalties, or what decides only how much of a run is shown
_FREE_PARAMS = {"seed", "threads", "compiler", "penalty_every_steps", "log_every_steps", "trajectory_points"}
# The lecture's log as far as it was printed: step -> G loss, D loss, D accuracy in percent.
PUBLISHED_LOG = {
    0: (0.937, 0.939, 52.0),
    50: (4.444, 0.029, 100.0),
    100: (3.809, 0.033, 100.0),
    150: (2.943, 0.036, 100.0),
    200: (1.935, 0.109, 100.0),
    250: (3.105, 0.032, 100.0),
    300: (4.000, 0.014, 100.0),
    350: (3.387, 0.030, 100.0),
    400: (3.518, 0.025, 100.0),
    450: (3.947, 0.024, 100.0),
    4600: (4.523, 0.179, 94.2),
    4650: (3.546, 0.280, 89.7),
    4700: (3.863, 0.204, 92.8),
    4750: (4.028, 0.304, 88.3),
    4800: (4.132, 0.201, 91.7),
    4850: (4.254, 0.276, 89.3),
    4900: (4.731, 0.199, 92.7),
    4950: (4.426, 0.227, 91.3),
    5000: (5.094, 0.140, 95.2),
}
_PUBLISHED_TAIL_FROM = 4600

# metric -> its name for people, and what it says; one that is not here is shown under its own name
METRICS = {
    "fid": ("FID", "distance from real digits in the judge's features; lower is better"),
    "fid_infinity": ("FID∞", "FID without the bias of a finite sample; lower is better"),
    "kid": ("KID", "another distance in the same features, unbiased; lower is better"),
    "precision_percent": ("Precision, %", "samples that lie among real digits; higher is better"),
    "recall_percent": ("Recall, %", "real digits that lie among samples; higher is better"),
    "density": ("Density", "how densely real digits surround a sample; 1 for real ones"),
    "coverage_percent": ("Coverage, %", "real digits with a sample nearby; higher is better"),
    "classes": ("Digits present", "of the ten"),
    "class_distance_percent": ("Class distance, %", "how far the digits' shares are from the real ones; lower is better"),
    "confidence_percent": ("Confidence, %", "how sure the judge is of a sample's digit"),
    "copied_percent": ("Copied, %", "samples suspiciously near a training image; about 1 for unseen real digits"),
    "classification_accuracy_percent": (
        "Classification accuracy, %",
        "on real digits, of a classifier trained on generated ones alone; higher is better",
    ),
    "classification_accuracy_real_percent": ("Classification accuracy, real, %", "the same classifier trained on real digits"),
}

_CURVE_POINTS = 200
_MARKED_POINTS = 30  # with no more, the points are marked: between them nothing was measured
# Colours that stand for CSS variables: matplotlib knows no variables, and the page has two colour schemes.
_STAND_INS = {
    "#010101": "var(--ink)",
    "#020202": "var(--rule)",
    "#030303": "var(--first)",
    "#040404": "var(--second)",
    "#050505": "var(--third)",
}
_INK, _RULE, _FIRST, _SECOND, _THIRD = _STAND_INS
SERIES_COLORS = (_FIRST, _SECOND, _THIRD)
_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be selected, and the page chooses its font
    "font.size": 10,
    "text.color": _INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.5,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a chart: values float64 [n] over the chart's x, and optionally a band around them from low to high."""

    label: str
    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def read_table(path, *, columns):
    """Read the CSV file at `path`: column name -> float64 [rows]. Steps are whole numbers and increase.

    Raises DataError when the file is missing or empty, lacks one of `columns`, or holds anything but finite numbers.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file, strict=True)
        table = np.array(rows, np.float64).reshape(len(rows), len(header))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `dvc repro` makes it") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: not a table of numbers under a header: {_one_line(error)}") from None
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; expected {', '.join(columns)}, got {', '.join(header)}")
    if len(rows) == 0 or not np.isfinite(table).all():
        raise DataError(
            f"{path}: expected rows of finite numbers, got {len(rows)} rows with {(~np.isfinite(table)).sum()} that are not"
        )
    steps = table[:, header.index("step")]
    if (steps != np.rint(steps)).any() or (np.diff(steps) <= 0).any():
        raise DataError(f"{path}: expected whole steps that increase")
    return dict(zip(header, table.T, strict=True))


def read_metrics(path):
    """Read the JSON file at `path`: an object of finite numbers, else DataError."""
    metrics = _read_json(path)
    if not _is_numbers(metrics):
        raise DataError(f"{path}: expected an object of finite numbers")
    return metrics


def read_floor(path):
    """Read the metrics of real digits at `path`: name of a set of real digits -> its metrics, finite numbers; else DataError."""
    return _read_groups(path)


def read_tail_mean(path):
    """Read (G loss, D loss, D accuracy in percent), means over the end of training, from training's metrics at `path`."""
    names = ("g_loss", "d_loss", "d_accuracy_percent")
    tail_mean = _read_groups(path).get("tail_mean", {})
    if not tail_mean.keys() >= set(names):
        raise DataError(f"{path}: expected tail_mean with {', '.join(names)}")
    return tuple(tail_mean[name] for name in names)


def read_picture(path, *, scale):
    """Read the gray PNG at `path`, undo its enlargement by the whole factor `scale`, and return it as a `data:` URI.

    A page enlarges pixels as well as a file does, and the URIs are half the size. Raises DataError for anything but such a PNG.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            pixels = np.asarray(image)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `dvc repro` makes it") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable PNG: {_one_line(error)}") from None
    small = pixels[::scale, ::scale]
    if pixels.ndim != 2 or not np.array_equal(
        small.repeat(scale, 0).repeat(scale, 1)[: pixels.shape[0], : pixels.shape[1]], pixels
    ):
        raise DataError(
            f"{path}: expected a gray picture of {scale} x {scale} squares, got another; `dvc repro gallery` makes it"
        )
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def snapshot_paths(folder):
    """The snapshots' grids in `folder`: [(step, path)], by step; DataError when there is none."""
    matches = ((re.fullmatch(r"img-(\d+)\.png", path.name), path) for path in Path(folder).glob("img-*.png"))
    found = sorted((int(match[1]), path) for match, path in matches if match)
    if not found:
        raise DataError(f"{folder}: no file img-<step>.png; `dvc repro gallery` makes them")
    return found


def is_published(train_params):
    """Whether these training parameters (a dict) are the lecture's, but for those that it leaves open."""
    return {name: value for name, value in train_params.items() if name not in _FREE_PARAMS} == PUBLISHED_PARAMS


def tiles(tail_mean, metrics, floor, *, published):
    """The numbers at the head of the page: a dict each with name, value and note."""
    found = [
        {
            "name": name,
            "value": f"{here:.{digits}f}",
            "note": f"published: {there:.{digits}f}" if published else "at the end of training",
        }
        for name, here, there, digits in zip(
            ("Generator loss", "Discriminator loss", "Discriminator accuracy, %"),
            tail_mean,
            published_tail_mean(),
            (3, 3, 1),
            strict=True,
        )
    ]
    if "fid" in metrics:
        real = floor.get("test", {}).get("fid")
        note = "lower is better" if real is None else f"real images: {real:.2f}"
        found.insert(0, {"name": "FID", "value": f"{metrics['fid']:.2f}", "note": note})
    return found


def log_lines(history, *, every_steps, published):
    """The lecture's log: a dict a line with step, `here` and, where the lecture printed that step, `published`, else None.

    Both are (G loss, D loss, D accuracy in percent). `published` says whether the lecture's figures belong there at all.
    """
    return [
        {
            "step": int(step),
            "here": tuple(float(history[name][row]) for name in LOG_COLUMNS),
            "published": PUBLISHED_LOG.get(int(step)) if published else None,
        }
        for row, step in enumerate(history["step"])
        if step % every_steps == 0
    ]


def published_tail_mean():
    """The mean of the lecture's last nine log lines: (G loss, D loss, D accuracy in percent)."""
    return tuple(np.mean([line for step, line in PUBLISHED_LOG.items() if step >= _PUBLISHED_TAIL_FROM], axis=0).tolist())


def training_curves(history):
    """The two charts of training as SVG: losses, and the discriminator's accuracy."""
    steps = _summary("", history["step"]).values
    losses = [_summary("generator", history["g_loss"]), _summary("discriminator", history["d_loss"])]
    accuracy = [_summary("discriminator", history["d_accuracy"])]
    return [
        draw("loss", steps, losses, title="Losses", log=min(series.low.min() for series in losses) > 0),
        draw("accuracy", steps, accuracy, title="Discriminator accuracy, %", colors=SERIES_COLORS[1:]),
    ]


def quality_curves(trajectory, floor):
    """Charts of quality over training as SVG, of those metrics that the trajectory has."""

    def series(name):
        values, deviation = trajectory[name], trajectory.get(f"{name}_std", np.zeros_like(trajectory[name]))
        return Series(METRICS[name][0], values, values - deviation, values + deviation)

    charts = []
    if "fid" in trajectory:
        real = floor.get("test", {}).get("fid")
        lines = [series("fid")] + ([] if real is None else [Series("real digits", np.full_like(trajectory["step"], real))])
        positive = min(line.values.min() for line in lines) > 0
        charts.append(draw("fid", trajectory["step"], lines, title="FID", log=positive))
    percents = [series(n) for n in ("precision_percent", "recall_percent", "coverage_percent") if n in trajectory]
    if percents:
        charts.append(draw("share", trajectory["step"], percents, title="Precision, recall and coverage, %"))
    return charts


def draw(name, steps, series, *, title, log=False, colors=SERIES_COLORS):
    """A line chart over steps as an SVG element for a page whose style gives the colours; the same input gives the same bytes.

    `name` keeps the identifiers of several charts in one page apart.
    """
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for line, color in zip(series, colors, strict=False):
            if line.low is not None:
                axes.fill_between(steps, line.low, line.high, color=color, alpha=0.25, linewidth=0)
            axes.plot(
                steps,
                line.values,
                color=color,
                label=line.label,
                marker="o" if len(steps) <= _MARKED_POINTS else None,
                markersize=3,
            )
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel("step")
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        if len(series) > 1:
            figure.legend(loc="outside lower center", ncols=len(series))
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    ends = "; ".join(f"{line.label} {line.values[0]:.4g} to {line.values[-1]:.4g}" for line in series)
    return _for_page(text.getvalue(), name, f"{title}, steps {steps[0]:.0f} to {steps[-1]:.0f}: {ends}")


def quality_rows(metrics, floor):
    """A dict a metric with name, meaning, value and `real`, the texts of the real digits' values, one for each part of the floor.

    `metrics` holds flat numbers, the noise of `x` under `x_std`; each part of `floor` holds the same of real digits.
    """

    def text(numbers, name):
        return with_noise(numbers[name], numbers.get(f"{name}_std", 0)) if name in numbers else "–"

    return [
        {
            "name": METRICS.get(name, (name.replace("_", " "), ""))[0],
            "meaning": METRICS.get(name, ("", ""))[1],
            "value": text(metrics, name),
            "real": [text(part, name) for part in floor.values()],
        }
        for name in metrics
        if not name.endswith("_std")
    ]


def with_noise(value, deviation):
    """`value ± deviation` to two digits of the deviation; four digits of the value alone where there is no deviation."""
    if deviation <= 0:
        return f"{value:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(deviation)))
    return f"{value:.{decimals}f} ± {deviation:.{decimals}f}"


def flatten(section, prefix=""):
    """The rows (dotted name, value as JSON) of a section of parameters."""
    rows = []
    for key, value in section.items():
        if isinstance(value, dict):
            rows += flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", json.dumps(value, ensure_ascii=False, default=str)))
    return rows


def render(**values):
    """Fill the page's template. Every value is escaped, save the SVG elements that `draw` made."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(values)


def _summary(label, values):
    """The mean, lowest and highest of values [n] in _CURVE_POINTS runs of neighbours: what a small chart can show."""
    runs = np.array_split(values, min(_CURVE_POINTS, len(values)))
    return Series(label, *(np.array([reduce(run) for run in runs]) for reduce in (np.mean, np.min, np.max)))


def _for_page(svg, name, description):
    """An SVG file as an element of a page: no prologue, identifiers of its own, the page's colours and font, a description."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for stand_in, variable in _STAND_INS.items():
        svg = svg.replace(stand_in, variable)
    svg = re.sub(r"font-family: [^;]+; |<style.*?</style>", "", svg, flags=re.DOTALL)
    label = markupsafe.escape(description)
    return markupsafe.Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))


def _read_json(path):
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `dvc repro` makes it") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {_one_line(error)}") from None


def _read_groups(path):
    groups = _read_json(path)
    if not isinstance(groups, dict) or not all(map(_is_numbers, groups.values())):
        raise DataError(f"{path}: expected an object of objects of finite numbers")
    return groups


def _is_numbers(value):
    return isinstance(value, dict) and all(type(item) in (int, float) and math.isfinite(item) for item in value.values())


def _one_line(error):
    return " ".join(str(error).split())
