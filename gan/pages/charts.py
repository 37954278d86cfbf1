"""The report's charts: SVG elements for a page whose style gives the colours; equal inputs give equal bytes."""

import numpy as np
from matplotlib.figure import Figure

from gan.pages import figures
from gan.pages.figures import SERIES_COLORS, Series, summary
from gan.pages.tables import TRAINING_NAMES, name_of


def losses_png(history):
    """The losses as a PNG of its own, bytes, for places that show pictures and no pages; equal histories give equal bytes."""
    steps = summary("", history["step"]).values
    with figures.style({}):
        figure = Figure(figsize=(6.4, 3.2), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        for label, name in (("generator", "g_loss"), ("discriminator", "d_loss")):
            line = summary(label, history[name])
            axes.fill_between(steps, line.low, line.high, alpha=0.25, linewidth=0)
            axes.plot(steps, line.values, label=label)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.legend(frameon=False)
        axes.grid(linewidth=0.5)
        return figures.png(figure)


def training_values(history, steps):
    """What the history says of `steps` int [k], as the log does: name of a column -> float64 [k]."""
    return {name: np.interp(steps, history["step"], history[name]) for name in ("g_loss", "d_loss", "d_accuracy")}


def training_curves(history, marks):
    """The two charts of training as SVG, with places for `marks` as in `draw`: losses, and the discriminator's accuracy."""
    steps = summary("", history["step"]).values
    losses = [summary("generator", history["g_loss"]), summary("discriminator", history["d_loss"])]
    accuracy = [summary("discriminator", history["d_accuracy"])]
    log = min(series.low.min() for series in losses) > 0
    shared = {"marks": marks, "span": (history["step"][0], history["step"][-1])}
    return [
        draw("loss", steps, losses, title="Losses", log=log, **shared),
        draw("accuracy", steps, accuracy, title=TRAINING_NAMES["d_accuracy"], colors=SERIES_COLORS[1:], **shared),
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
    with figures.page_style(name):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for line, color in zip(series, colors, strict=False):
            figures.plot(axes, steps, line, color=color)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel("step")
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        if len(series) > 1:
            figure.legend(loc="outside lower center", ncols=len(series))
        ends = "; ".join(f"{line.label} {line.values[0]:.4g} to {line.values[-1]:.4g}" for line in series)
        points = [(marks, np.interp(marks, steps, line.values)) for line in series]
        description = f"{title}, steps {first:.0f} to {last:.0f}: {ends}"
        return figures.element(figure, name, description, places=lambda: _places(figure, axes, points))


def _places(figure, axes, lines):
    """Where the points of `lines`, (x, y) float [k] each, lie in the figure's SVG file: in points, y downwards."""
    height = figure.get_figheight() * 72

    def flipped(pixels):
        points = pixels * 72 / figure.dpi
        return np.round(points[:, 0], 1), np.round(height - points[:, 1], 1)

    found = [flipped(axes.transData.transform(np.column_stack(line))) for line in lines]
    _, (bottom, top) = flipped(axes.transAxes.transform([(0, 0), (0, 1)]))
    return {"x": found[0][0].tolist(), "y": [y.tolist() for _, y in found], "top": top, "bottom": bottom}
