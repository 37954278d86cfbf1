"""The report's page: one file that shows a run, with nothing to load."""

from pathlib import Path

import jinja2

TEMPLATE = "report.html.j2"


def render(**values):
    """Fill the page's template. Every value is escaped, save the SVG elements of `gan.pages.charts`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(values)
