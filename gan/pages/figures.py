"""What all charts share: their style, their lines, and how a figure becomes an SVG element of a page, or a PNG."""

import dataclasses
import io
import json
import re

import markupsafe
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG

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

INK, RULE, FIRST, SECOND, THIRD = _STAND_INS

SERIES_COLORS = (FIRST, SECOND, THIRD)

PICTURE_COLORS = ("#b0440c", "#1c62ad", "#8a8f99")  # of series in a picture, which has one colour scheme

_PAGE_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be selected, and the page chooses its font
    "font.size": 10,
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
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


def summary(label, values):
    """A Series of the mean, lowest and highest of values [n] in at most 200 runs of neighbours: what a small chart can show."""
    runs = np.array_split(values, min(_CURVE_POINTS, len(values)))
    return Series(label, *(np.array([reduce(run) for run in runs]) for reduce in (np.mean, np.min, np.max)))


def plot(axes, steps, series, *, color, style="solid"):
    """Draw a Series over `steps`, its band and, where it has few points, each of them."""
    if series.low is not None:
        axes.fill_between(steps, series.low, series.high, color=color, alpha=0.25, linewidth=0)
    marker = "o" if len(steps) <= _MARKED_POINTS else None
    axes.plot(steps, series.values, color=color, linestyle=style, label=series.label, marker=marker, markersize=3)


def style(changes):
    """matplotlib's own defaults with `changes`, whatever a matplotlibrc of this machine says."""
    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    return matplotlib.rc_context(defaults | changes)


def page_style(salt, *, grid=True):
    """The style of an SVG element in a page whose own style gives the colours; equal figures of a `salt` give equal bytes."""
    return style(_PAGE_STYLE | {"svg.hashsalt": salt, "axes.grid": grid})


def element(figure, name, description, *, places=None):
    """A figure as an SVG element of a page, within `page_style`; `name` keeps its identifiers apart from other charts'.

    The description is for who cannot see it. places: a function that is called once all has its place; what it returns becomes
    the attribute data-marks as JSON.
    """
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for stand_in, variable in _STAND_INS.items():
        svg = svg.replace(stand_in, variable)
    svg = re.sub(r"font-family: [^;]+; |<style.*?</style>", "", svg, flags=re.DOTALL)
    attributes = f'role="img" aria-label="{markupsafe.escape(description)}"'
    if places is not None:
        attributes += f' data-marks="{markupsafe.escape(json.dumps(places(), separators=(",", ":")))}"'
    return markupsafe.Markup(svg.replace("<svg ", f"<svg {attributes} ", 1))


def png(figure):
    """A figure as a PNG: bytes, the same ones for the same figure."""
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture, metadata={"Software": None})  # else the version of matplotlib stands in it
    return picture.getvalue()
