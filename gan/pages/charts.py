"""The report's charts: SVG elements for a page whose style gives the colours; equal inputs give equal bytes."""

import dataclasses
import io
import json
import re

import markupsafe
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from gan.pages.tables import name_of

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


def losses_png(history):
    """The losses as a PNG of its own, bytes, for places that show pictures and no pages; equal histories give equal bytes."""
    steps = _summary("", history["step"]).values
    picture = io.BytesIO()
    with _style({}):
        figure = Figure(figsize=(6.4, 3.2), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        for label, name in (("generator", "g_loss"), ("discriminator", "d_loss")):
            line = _summary(label, history[name])
            axes.fill_between(steps, line.low, line.high, alpha=0.25, linewidth=0)
            axes.plot(steps, line.values, label=label)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.legend(frameon=False)
        axes.grid(linewidth=0.5)
        FigureCanvasAgg(figure).print_png(picture, metadata={"Software": None})  # else the version of matplotlib stands in it
    return picture.getvalue()


def training_values(history, steps):
    """What the history says of `steps` int [k], as the log does: name of a column -> float64 [k]."""
    return {name: np.interp(steps, history["step"], history[name]) for name in ("g_loss", "d_loss", "d_accuracy")}


def training_curves(history, marks):
    """The two charts of training as SVG, with places for `marks` as in `draw`: losses, and the discriminator's accuracy."""
    steps = _summary("", history["step"]).values
    losses = [_summary("generator", history["g_loss"]), _summary("discriminator", history["d_loss"])]
    accuracy = [_summary("discriminator", history["d_accuracy"])]
    log = min(series.low.min() for series in losses) > 0
    shared = {"marks": marks, "span": (history["step"][0], history["step"][-1])}
    return [
        draw("loss", steps, losses, title="Losses", log=log, **shared),
        draw("accuracy", steps, accuracy, title="Discriminator accuracy, %", colors=SERIES_COLORS[1:], **shared),
    ]


def quality_curves(trajectory, floor, marks):
    """Charts of quality over training as SVG, with places for `marks` as in `draw`, of those metrics that the trajectory has."""

    def series(name):
        values, deviation = trajectory[name], trajectory.get(f"{name}_std", np.zeros_like(trajectory[name]))
        return Series(name_of(name), values, values - deviation, values + deviation)

    charts = []
    if "fid" in trajectory:
        real = floor.get("test", {}).get("fid")
        lines = [series("fid")] + ([] if real is None else [Series("real digits", np.full_like(trajectory["step"], real))])
        positive = min(line.values.min() for line in lines) > 0
        charts.append(draw("fid", trajectory["step"], lines, title="FID", marks=marks, log=positive))
    percents = [series(n) for n in ("precision_percent", "recall_percent", "coverage_percent") if n in trajectory]
    if percents:
        title = "Precision, recall and coverage, %"
        charts.append(draw("share", trajectory["step"], percents, title=title, marks=marks))
    return charts


def draw(name, steps, series, *, title, marks, span=None, log=False, colors=SERIES_COLORS):
    """A line chart over steps as an SVG element for a page whose style gives the colours; the same input gives the same bytes.

    `name` keeps the identifiers of several charts in one page apart. Its attribute data-marks holds the places of the steps
    `marks` in the chart: x of each, y of each on every line, and the top and bottom of the axes. A mark beyond the lines stands
    at their end. `span` is the first and the last step that the lines tell of, where these are not those of `steps`.
    """
    first, last = span or (steps[0], steps[-1])
    marks = np.clip(marks, steps[0], steps[-1])
    with _style(_STYLE | {"svg.hashsalt": name}):
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
        places = _places(figure, axes, [(marks, np.interp(marks, steps, line.values)) for line in series])
    ends = "; ".join(f"{line.label} {line.values[0]:.4g} to {line.values[-1]:.4g}" for line in series)
    return _for_page(text.getvalue(), name, f"{title}, steps {first:.0f} to {last:.0f}: {ends}", places)


def _style(changes):
    """matplotlib's own defaults with `changes`, whatever a matplotlibrc of this machine says."""
    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    return matplotlib.rc_context(defaults | changes)


def _summary(label, values):
    """The mean, lowest and highest of values [n] in _CURVE_POINTS runs of neighbours: what a small chart can show."""
    runs = np.array_split(values, min(_CURVE_POINTS, len(values)))
    return Series(label, *(np.array([reduce(run) for run in runs]) for reduce in (np.mean, np.min, np.max)))


def _places(figure, axes, lines):
    """Where the points of `lines`, (x, y) float [k] each, lie in the figure's SVG file: in points, y downwards."""
    height = figure.get_figheight() * 72

    def flipped(pixels):
        points = pixels * 72 / figure.dpi
        return np.round(points[:, 0], 1), np.round(height - points[:, 1], 1)

    found = [flipped(axes.transData.transform(np.column_stack(line))) for line in lines]
    _, (bottom, top) = flipped(axes.transAxes.transform([(0, 0), (0, 1)]))
    return {"x": found[0][0].tolist(), "y": [y.tolist() for _, y in found], "top": top, "bottom": bottom}


def _for_page(svg, name, description, places):
    """An SVG file as an element of a page: no prologue, identifiers of its own, the page's colours and font, a description."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for stand_in, variable in _STAND_INS.items():
        svg = svg.replace(stand_in, variable)
    svg = re.sub(r"font-family: [^;]+; |<style.*?</style>", "", svg, flags=re.DOTALL)
    label, marks = markupsafe.escape(description), markupsafe.escape(json.dumps(places, separators=(",", ":")))
    return markupsafe.Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{label}" data-marks="{marks}" ', 1))
