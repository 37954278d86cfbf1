"""Filling a page's template: the one place that says how."""

import re
from pathlib import Path

import jinja2
import markupsafe

HERE = Path(__file__).parent
_BREAKS = re.compile(r"(?<=[,=])(?! )|(?<=[_./])(?=[^\W\d_])")  # in no number


def fill(template, values):
    """The page of the file `template` beside this one. Every text of `values` (a dict) is escaped; a missing one is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment.get_template(template).render(values)


def breakable(text):
    """A text, escaped, that a page may break behind the commas and between the words of a long name: `a.b_c=0.5,d=2`."""
    return markupsafe.Markup("<wbr>").join(_BREAKS.split(str(text)))
