"""The report's page: one file that shows a run, with nothing to load."""

from pathlib import Path

import jinja2
import markupsafe

TEMPLATE = "report.html.j2"
SCRIPTS = ("network.js", "explore.js", "evolution.js")

_HERE = Path(__file__).parent


def render(**values):
    """Fill the page's template. Every value is escaped, save the SVG elements of `gan.pages.charts`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [markupsafe.Markup((_HERE / name).read_text(encoding="utf-8")) for name in SCRIPTS]
    return environment.get_template(TEMPLATE).render(values, scripts=scripts)
