"""The report's page: one file that shows a run, with nothing to load."""

import markupsafe

from gan.pages.templates import HERE, fill

TEMPLATE = "report.html.j2"
SCRIPTS = ("network.js", "explore.js", "evolution.js")


def render(**values):
    """Fill the page's template. Every value is escaped, save the SVG elements of `gan.pages.charts`."""
    scripts = [markupsafe.Markup((HERE / name).read_text(encoding="utf-8")) for name in SCRIPTS]
    return fill(TEMPLATE, {**values, "scripts": scripts})
