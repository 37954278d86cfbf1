"""Curves of two runs over each other: SVG elements for a page, and one PNG for places that show pictures and no pages."""

import io
import re
from dataclasses import dataclass

import markupsafe
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from gan.pages import charts
from gan.pages.charts import Series
from gan.pages.tables import METRICS

RUNS = ("old", "new")
TRAINING = {"g_loss": "Generator loss", "d_loss": "Discriminator loss", "d_accuracy": "Discriminator accuracy, %"}
QUALITY = ("fid", "precision_percent", "recall_percent", "coverage_percent")
_IN_PICTURE = ("g_loss", "d_loss", "fid")
_LINES = ("solid", (0, (4, 2)))  # the second dashed: where both are the same, both are seen, and colour is not all
_COLORS = ("#b0440c", "#1c62ad")  # of the picture, which has one colour scheme


@dataclass(frozen=True)
class Overlay:
    """One chart: a line for each run that has one, each over its own steps."""

    name: str  # of the column
    title: str
    lines: dict[str, tuple[np.ndarray, Series]]  # of RUNS: steps float64 [n], Series of [n]

    @property
    def log(self):
        """Whether the axis is logarithmic: the charts of losses and distances, where no value forbids it."""
        lowest = min((line.values if line.low is None else line.low).min() for _, line in self.lines.values())
        return self.name in ("g_loss", "d_loss", "fid") and lowest > 0


class _PlainLogFormatter(LogFormatter):
    """Labels as few ticks of a logarithmic axis as its base class does, but 0.6 and not 6e-01."""

    def __call__(self, x, pos=None):
        return f"{x:g}" if super().__call__(x, pos) else ""


def overlays(histories, trajectories):
    """The Overlays of two runs, training first.

    Both arguments hold a table, column -> float64 [rows] with the column "step", for each of RUNS that has one. A history shows
    means of neighbouring steps, a trajectory each value and a band of one standard deviation.
    """
    found = []
    for name, title in TRAINING.items():
        lines = {run: _summarized(table, name) for run, table in histories.items() if name in table}
        found.append(Overlay(name, title, lines))
    for name in QUALITY:
        lines = {run: _measured(table, name) for run, table in trajectories.items() if name in table}
        found.append(Overlay(name, METRICS[name][0], lines))
    return [chart for chart in found if chart.lines]


def svg(chart):
    """The chart as an SVG element for a page whose style gives the colours; the same input gives the same bytes."""
    text = io.StringIO()
    with charts._style(charts._STYLE | {"svg.hashsalt": chart.name}):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        axes = figure.add_subplot()
        _paint(axes, chart, charts.SERIES_COLORS)
        axes.set_title(chart.title, loc="left", fontsize=11)
        figure.legend(loc="outside lower center", ncols=len(chart.lines))
        FigureCanvasSVG(figure).print_svg(text, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    ends = "; ".join(
        f"{run} {line.values[0]:.4g} to {line.values[-1]:.4g} in steps {steps[0]:.0f} to {steps[-1]:.0f}"
        for run, (steps, line) in chart.lines.items()
    )
    return _element(text.getvalue(), chart.name, f"{chart.title}: {ends}")


def png(all_charts):
    """Losses and FID beside each other as a PNG, bytes, or None where there is neither; the same input gives the same bytes."""
    shown = [chart for chart in all_charts if chart.name in _IN_PICTURE]
    if not shown:
        return None
    picture = io.BytesIO()
    with charts._style({"axes.grid": True, "grid.linewidth": 0.5, "lines.linewidth": 1.4}):
        figure = Figure(figsize=(3.4 * len(shown), 2.8), dpi=100, layout="constrained")
        for axes, chart in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            _paint(axes, chart, _COLORS)
            axes.set_title(chart.title, loc="left", fontsize=10)
            axes.legend(frameon=False)
        FigureCanvasAgg(figure).print_png(picture, metadata={"Software": None})  # else the version of matplotlib stands in it
    return picture.getvalue()


def _paint(axes, chart, colors):
    styles = dict(zip(RUNS, zip(colors, _LINES, strict=False), strict=True))
    for run, (steps, line) in chart.lines.items():
        color, style = styles[run]
        if line.low is not None:
            axes.fill_between(steps, line.low, line.high, color=color, alpha=0.25, linewidth=0)
        marker = "o" if len(steps) <= charts._MARKED_POINTS else None
        axes.plot(steps, line.values, color=color, linestyle=style, label=run, marker=marker, markersize=3)
    axes.set_xlabel("step")
    if chart.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_PlainLogFormatter())
        axes.yaxis.set_minor_formatter(_PlainLogFormatter())


def _summarized(table, name):
    """Means alone: two bands from the lowest to the highest would hide each other."""
    return charts._summary("", table["step"]).values, Series(name, charts._summary(name, table[name]).values)


def _measured(table, name):
    values, deviation = table[name], table.get(f"{name}_std")
    if deviation is None:
        return table["step"], Series(name, values)
    return table["step"], Series(name, values, values - deviation, values + deviation)


def _element(text, name, description):
    """An SVG file as an element of a page: no prologue, identifiers of its own, the page's colours and font, a description."""
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text[text.index("<svg") :])
    for stand_in, variable in charts._STAND_INS.items():
        text = text.replace(stand_in, variable)
    text = re.sub(r"font-family: [^;]+; |<style.*?</style>", "", text, flags=re.DOTALL)
    return markupsafe.Markup(text.replace("<svg ", f'<svg role="img" aria-label="{markupsafe.escape(description)}" ', 1))
