"""What changed between two runs, in words: for a page, and as Markdown for the place where changes are reviewed."""

import json
import math
import re
import urllib.parse

from gan.pages.tables import METRICS, flatten, name_of, with_noise

MISSING = "–"
LONGEST_TEXT = 120  # characters of one name or value; the rest is cut
LONGEST_MARKDOWN = 60_000  # characters: GitHub takes 65,536 in a comment, GitLab a million
_PARTS = 3  # parameters and metrics get this share of it each, and the rest has room


def parameter_changes(old, new):
    """The rows (dotted name, old value, new value) of the parameters that differ; a value is JSON, or "–" where there is none."""
    before, after = (dict(row for name, value in params.items() for row in _rows(name, value)) for params in (old, new))
    names = [*before, *(name for name in after if name not in before)]
    pairs = [(name, before.get(name, MISSING), after.get(name, MISSING)) for name in names]
    return [row for row in pairs if row[1] != row[2]]


def metric_rows(compared):
    """A dict of texts for each metric: key, name and meaning for people, old, new, change, interval, beyond ("yes", "no", "–").

    `compared` are objects with the fields of `flows.metrics.ComparedMetric`. Metrics that have a meaning come first.
    """
    rows = []
    for one in sorted(compared, key=lambda one: one.metric not in METRICS):
        texts = {"key": one.metric, "name": name_of(one.metric), "meaning": METRICS.get(one.metric, ("", ""))[1]}
        texts |= {"old": _value(one.previous, one.previous_noise), "new": _value(one.value, one.noise)}
        texts |= {"change": MISSING, "interval": MISSING, "beyond": MISSING}
        if one.change is not None:
            texts["change"] = _signed(one.change, one.explained)
        if one.beyond_noise is not None:
            ends = (_signed(one.change + sign * one.explained, one.explained) for sign in (-1, 1))
            texts["interval"] = " to ".join(ends)
            texts["beyond"] = "yes" if one.beyond_noise else "no"
        rows.append(texts)
    return rows


def verdict(compared, *, metric, direction, shown):
    """One or two sentences on the metric that the quality gate looks at, named as `shown`; `direction` says which is better."""
    one = next((item for item in compared if item.metric == metric), None)
    if one is None or one.change is None:
        return f"No verdict: not both runs have a number for {shown}."
    if one.change == 0:
        return f"{shown} is the same in both runs: {_value(one.value, one.noise)}."
    word = "better" if (one.change < 0) == (direction == "lower") else "worse"
    text = (
        f"{shown} went from {_value(one.previous, one.previous_noise)} to {_value(one.value, one.noise)} ({direction} is better)"
    )
    amount = _signed(abs(one.change), one.explained).lstrip("+")
    if one.beyond_noise is None:
        return f"{text}: {word} by {amount}. No noise is stated, so nobody can say whether that counts."
    allowed = _signed(one.explained, one.explained).lstrip("+")
    if one.beyond_noise:
        return f"{text}: {word} by {amount}, more than the {allowed} that noise explains."
    return f"{text}: {word} by {amount}, no more than the {allowed} that noise explains."


def noise_notes(compared, *, metric, margin, names=str):
    """Sentences that say what the noise in a table of metrics counts; `names` turns a metric's name into a text.

    metric: the one that the quality gate looks at. margin: the gate's.
    """
    notes = [
        "± is one standard deviation of drawing another sample from the same generator. "
        "The interval is the change, give or take what noise explains; "
        "the change is more than noise where the interval leaves out 0. "
        f"For {names(metric)} noise explains {margin:g} standard deviations of a difference, and more where a study of few seeds "
        "has measured them (Student's distribution). All other metrics are looked at "
        "together (Holm's procedure): where nothing differs but the noise that is counted, any of them shows a change in at most "
        f"{100 * math.erfc(margin / math.sqrt(2)):.2g} of 100 comparisons."
    ]
    seeds = [one for one in compared if one.seeds]
    notes += [f"Other seeds of training move {names(one.metric)} by about {one.seeds:.2g}, which is counted." for one in seeds]
    if len(seeds) < len(compared):
        notes.append(
            f"For {'the other metrics' if seeds else 'all metrics'} the effect of other seeds is not measured and not counted: "
            "a change may be more than noise and still a matter of the seed."
        )
    return notes


def markdown(*, old, new, commits, verdict, warnings, rows, notes, parameters, pictures):
    """The report as Markdown, at most LONGEST_MARKDOWN characters beside the pictures' links.

    old, new: names of the runs. commits: what each of them is. verdict, notes: Markdown already. warnings: lines of text.
    rows: of `metric_rows`. parameters: of `parameter_changes`. pictures: (description, link) each. No name or value can become
    markup or a mention.
    """
    parts = [
        f"## {code(old)} → {code(new)}",
        f"Old: {code(old)}, {commits[0]}. New: {code(new)}, {commits[1]}.",
        f"**{verdict}**",
        *(f"> {code(line, longest=500)}" for line in warnings),
        "### Metrics",
        _metrics_table(rows) if rows else "No metrics in git.",
        *([" ".join(notes)] if rows else []),
        "### Parameters",
        _parameter_list(parameters),
    ]
    if pictures:
        parts.append("### Pictures")
        parts += [f"![{_alt(text)}](<{_link(link)}>)\n\n{_alt(text)}" for text, link in pictures]
    return "\n\n".join(parts) + "\n"


def code(text, *, longest=LONGEST_TEXT):
    """`text` as Markdown's code: one line, cut to `longest` characters, whatever markup it holds."""
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if not text.strip(" ") or text.startswith((" ", "`")) or text.endswith((" ", "`")) else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _metrics_table(rows):
    head = ["| metric | old | new | change | interval | more than noise |", "| --- | --: | --: | --: | --: | --- |"]
    keys = ("old", "new", "change", "interval", "beyond")
    # a pipe would end the cell, and escapes of it are read differently by different readers
    lines = ["| " + " | ".join([_cell(row), *(_plain(row[key]) for key in keys)]) + " |" for row in rows]
    return "\n".join(_within(head, lines, "| … {} more | | | | | |"))


def _cell(row):
    return row["name"] if row["key"] in METRICS else code(row["key"].replace("|", "¦"))


def _plain(text):
    """A number's text as it is; any other as code."""
    return text if re.fullmatch(r"[-+–±.\d\w ]*", text, re.ASCII) or text == MISSING else code(text.replace("|", "¦"))


def _parameter_list(parameters):
    if not parameters:
        return "None differs."
    lines = [f"- {code(name)}: {_or_missing(before)} → {_or_missing(after)}" for name, before, after in parameters]
    return "\n".join(_within([], lines, "- … {} more"))


def _or_missing(value):
    return value if value == MISSING else code(value)


def _within(head, lines, rest):
    """`head` and as many `lines` as a part of the report may hold, and a last one that counts those left out."""
    room, shown = LONGEST_MARKDOWN // _PARTS, list(head)
    for number, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0:
            return [*shown, rest.format(len(lines) - number)]
        shown.append(line)
    return shown


def _alt(text):
    return re.sub(r"[^A-Za-z0-9 ,.:;()-]", " ", text).strip()


def _link(link):
    return urllib.parse.quote(link, safe="/:?#@!$&'()*+,;=%~")


def _rows(name, value):
    return flatten({name: value})


def _value(value, noise):
    if value is None:
        return MISSING
    return with_noise(value, noise or 0) if isinstance(value, int | float) else json.dumps(value, ensure_ascii=False)


def _signed(value, explained):
    """`value` with its sign, to two digits of a standard deviation, about half of `explained`; four digits of it without one.

    What would be rounded to nothing keeps its first digit.
    """
    if value == 0:
        return "0"
    if not explained:
        return f"{value:+.4g}"
    decimals = max(0, 1 - math.floor(math.log10(explained / 2)))
    text = f"{value:+.{decimals}f}"
    return text if float(text) else f"{value:+.1g}"
