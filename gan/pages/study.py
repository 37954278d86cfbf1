"""The page of a study: one file, with nothing to load."""

from gan.pages.templates import fill

TEMPLATE = "study.html.j2"


def render(**values):
    """Fill the page's template. Every value is escaped, save the SVG elements of `gan.pages.study_charts`.

    question, name, commit: texts. runs: int. compares: whether there are variants beside the baseline. verdicts: dicts with
    variant, metric, verdict and sentence. charts: dicts with title and svg. parallel: an SVG element or None. rows: dicts of
    texts with variant, metric, runs, mean, deviation, difference, interval and p_value. notes, missing: texts. samples: dicts
    with variant and uri, a `data:` URI. same_inputs: whether their generators take the same latents and labels. variants: dicts
    with name, set and overrides.
    """
    return fill(TEMPLATE, values)
