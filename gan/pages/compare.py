"""The page that shows two runs side by side: one file, with nothing to load."""

from gan.pages.templates import fill

TEMPLATE = "compare.html.j2"


def render(**values):
    """Fill the page's template. Every value is escaped, save the SVG elements of `gan.pages.compare_charts`.

    old, new: dicts with `name` and `commit`, texts. verdict, margin, notes, warnings: texts. rows: of `change.metric_rows`.
    parameters: of `change.parameter_changes`. pictures: None, or a dict of `data:` URIs old, new and difference (or None), and
    the text `why_not`. curves: SVG elements.
    """
    return fill(TEMPLATE, values)
