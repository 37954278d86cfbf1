"""Filling a page's template: the one place that says how."""

from pathlib import Path

import jinja2

HERE = Path(__file__).parent


def fill(template, values):
    """The page of the file `template` beside this one. Every text of `values` (a dict) is escaped; a missing one is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
