"""Charts of a study: runs as dots with intervals, differences against zero, and a grid's parameters against a metric."""

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gan.pages import figures, png
from gan.pages.tables import name_of

_ROW_INCHES = 0.42
_LINE_INCHES = 0.17  # of a name that takes several
_NAME_CHARACTERS, _BEST_CHARACTERS = 40, 70  # in a line
_LIFT = 0.22  # of the runs above their interval, in rows


@dataclass(frozen=True)
class Row:
    """One variant in one metric."""

    variant: str
    values: list[float]  # of its runs
    mean: float
    interval: tuple[float, float] | None  # of the mean
    difference: float | None  # to the baseline; None for the baseline itself, and before it is judged
    difference_interval: tuple[float, float] | None


@dataclass(frozen=True)
class MetricChart:
    """All variants in one metric, the baseline first."""

    metric: str
    rows: list[Row]
    smallest_difference: float | None  # that matters; None where nothing is compared

    @property
    def title(self):
        """The metric's name for people."""
        return name_of(self.metric)


def metric_svg(chart):
    """A MetricChart as an SVG element for a page whose style gives the colours; the same input gives the same bytes."""
    said = "; ".join(f"{row.variant} {row.mean:.4g}" for row in chart.rows)
    with figures.page_style(chart.metric, grid=False):
        figure = _metric_figure(chart, figures.SERIES_COLORS)
        return figures.element(figure, f"metric-{chart.metric}", f"{chart.title}, mean of each variant: {said}")


def metrics_png(all_charts):
    """The MetricCharts under each other as a PNG, bytes, for places that show pictures and no pages."""
    buffers = []
    with figures.style({}):
        for chart in all_charts:
            figure = _metric_figure(chart, figures.PICTURE_COLORS)
            figure.set_dpi(100)
            figure.set_facecolor("white")
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            buffers.append(np.asarray(canvas.buffer_rgba())[..., :3])
    return png.encode(np.vstack(buffers))


def parallel_svg(axes_values, metric, means, *, best):
    """A line a variant through the grid's axes to the metric's mean, as an SVG element.

    axes_values: axis -> the value of each variant, in the order of `means`: variant -> mean. best: the variant that is drawn
    strongest; the baseline, the first, is drawn second.
    """
    columns = {axis: _ordered(values) for axis, values in axes_values.items()}
    columns[metric] = _scaled(list(means.values()))
    baseline = next(iter(means))
    with figures.page_style("parallel", grid=False):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for number, variant in enumerate(means):
            heights = [places[number] for places, _ in columns.values()]
            strong = {baseline: (figures.FIRST, 2.0), best: (figures.SECOND, 2.6)}.get(variant)
            color, width = strong or (figures.INK, 0.8)
            label = {baseline: "baseline", best: _wrapped(f"best mean: {best}", _BEST_CHARACTERS)}.get(variant)
            axes.plot(range(len(columns)), heights, color=color, linewidth=width, alpha=1 if strong else 0.45, label=label)
        for column, (_, ticks) in enumerate(columns.values()):
            axes.axvline(column, color=figures.RULE, linewidth=1)
            for place, label in ticks:
                axes.annotate(label, (column, place), xytext=(4, 3), textcoords="offset points", fontsize=9)
        axes.set_xticks(range(len(columns)), list(columns))
        axes.set_yticks([])
        axes.set_xlim(-0.1, len(columns) - 0.7)
        axes.spines[:].set_visible(False)
        figure.legend(loc="outside lower center", ncols=2)
        return figures.element(figure, "parallel", f"Grid of {', '.join(axes_values)} against {metric}; best is {best}")


def _metric_figure(chart, colors):
    """Each variant's runs and mean; beside them, where it is compared, its difference to the baseline."""
    first, second, third = colors
    names = [_wrapped(row.variant, _NAME_CHARACTERS) for row in chart.rows]
    lines = 1 + max((name.count("\n") for name in names), default=0)
    height = 1.05 + max(_ROW_INCHES, _LINE_INCHES * lines + 0.1) * len(names)
    figure = Figure(figsize=(9, height), layout="constrained")
    if chart.smallest_difference is None:
        left, right = figure.subplots(), None
    else:
        left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(chart.rows):
        color = first if place == 0 else second
        left.plot(row.values, [place - _LIFT] * len(row.values), "o", color=color, alpha=0.4, markersize=5, markeredgewidth=0)
        if row.interval:
            left.plot(row.interval, [place, place], color=color, linewidth=2)
        left.plot([row.mean], [place], "|", color=color, markersize=14, markeredgewidth=2.4)
        if row.difference is not None:
            if row.difference_interval:
                right.plot(row.difference_interval, [place, place], color=color, linewidth=2)
            right.plot([row.difference], [place], "o", color=color, markersize=6)
    if right is not None:
        if any(row.difference is not None for row in chart.rows):
            right.axvspan(-chart.smallest_difference, chart.smallest_difference, color=third, alpha=0.15, linewidth=0)
        else:
            right.set_xticks([0])
        right.axvline(0, color=first, linewidth=1.2)
        right.set_title("difference to the baseline", loc="left", fontsize=11)
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(chart.rows) - 0.4, -0.6)
    left.set_title(chart.title, loc="left", fontsize=11)
    for axes in figure.axes:
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _wrapped(name, characters):
    """A variant's name in lines of so many characters; one of a grid, `axis=value,axis=value`, is broken between its axes."""
    return "\n".join(textwrap.wrap(name.replace(",", ", "), characters, break_on_hyphens=False))


def _ordered(values):
    """(height in 0..1 of each value, ticks) of a parameter: numbers by size, all else in the order given, evenly apart."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    known = values if numbers else list(map(str, values))
    distinct = sorted(set(known)) if numbers else list(dict.fromkeys(known))
    share = {value: number / max(1, len(distinct) - 1) for number, value in enumerate(distinct)}
    return [share[value] for value in known], [(place, f"{value:.4g}" if numbers else value) for value, place in share.items()]


def _scaled(values):
    """(height in 0..1 of each value, ticks) of a metric."""
    low, high = min(values), max(values)
    width = high - low or 1.0
    ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    return [(value - low) / width for value in values], [((tick - low) / width, f"{tick:g}") for tick in ticks]
