"""Curves of two runs over each other: SVG elements for a page, and one PNG for places that show pictures and no pages."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from gan.pages import figures
from gan.pages.figures import PICTURE_COLORS, SERIES_COLORS, Series, summary
from gan.pages.tables import METRICS, TRAINING_NAMES

RUNS = ("old", "new")
QUALITY = ("fid", "precision_percent", "recall_percent", "coverage_percent")
_IN_PICTURE = ("g_loss", "d_loss", "fid")
_LINES = ("solid", (0, (4, 2)))  # the second dashed: where both are the same, both are seen, and colour is not all


@dataclass(frozen=True)
class Overlay:
    """One chart: a line for each run that has one, each over its own steps."""

    name: str  # of the column
    title: str
    lines: dict[str, tuple[np.ndarray, Series]]  # of RUNS: steps float64 [n], Series of [n]
    spans: dict[str, tuple[float, float]]  # of each run: the first and the last step that its lines tell of

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
    for name, title in TRAINING_NAMES.items():
        lines = {run: _summarized(run, table, name) for run, table in histories.items() if name in table}
        found.append(Overlay(name, title, lines, _spans(histories)))
    for name in QUALITY:
        lines = {run: _measured(run, table, name) for run, table in trajectories.items() if name in table}
        found.append(Overlay(name, METRICS[name][0], lines, _spans(trajectories)))
    return [chart for chart in found if chart.lines]


def svg(chart):
    """The chart as an SVG element for a page whose style gives the colours; the same input gives the same bytes."""
    ends = "; ".join(
        "{} {:.4g} to {:.4g} in steps {:.0f} to {:.0f}".format(run, line.values[0], line.values[-1], *chart.spans[run])
        for run, (_, line) in chart.lines.items()
    )
    with figures.page_style(chart.name):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        axes = figure.add_subplot()
        _paint(axes, chart, SERIES_COLORS)
        axes.set_title(chart.title, loc="left", fontsize=11)
        figure.legend(loc="outside lower center", ncols=len(chart.lines))
        return figures.element(figure, chart.name, f"{chart.title}: {ends}")


def png(all_charts):
    """Losses and FID beside each other as a PNG, bytes, or None where there is neither; the same input gives the same bytes."""
    shown = [chart for chart in all_charts if chart.name in _IN_PICTURE]
    if not shown:
        return None
    with figures.style({"axes.grid": True, "grid.linewidth": 0.5, "lines.linewidth": 1.4}):
        figure = Figure(figsize=(3.4 * len(shown), 2.8), dpi=100, layout="constrained")
        for axes, chart in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            _paint(axes, chart, PICTURE_COLORS)
            axes.set_title(chart.title, loc="left", fontsize=10)
            axes.legend(frameon=False)
        return figures.png(figure)


def _paint(axes, chart, colors):
    styles = dict(zip(RUNS, zip(colors, _LINES, strict=False), strict=True))
    for run, (steps, line) in chart.lines.items():
        color, style = styles[run]
        figures.plot(axes, steps, line, color=color, style=style)
    axes.set_xlabel("step")
    if chart.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_PlainLogFormatter())
        axes.yaxis.set_minor_formatter(_PlainLogFormatter())


def _spans(tables):
    return {run: (table["step"][0], table["step"][-1]) for run, table in tables.items()}


def _summarized(run, table, name):
    """Means alone: two bands from the lowest to the highest would hide each other."""
    return summary("", table["step"]).values, Series(run, summary("", table[name]).values)


def _measured(run, table, name):
    values, deviation = table[name], table.get(f"{name}_std")
    if deviation is None:
        return table["step"], Series(run, values)
    return table["step"], Series(run, values, values - deviation, values + deviation)
