"""`gan report-change`: what a change does to parameters, metrics and digits, for the place where it is reviewed."""

import dataclasses
import json
import os
from pathlib import Path

import click

from commands import comparison
from flows.git import Repository
from gan.errors import DataError
from gan.files import write_bytes

_SCALE = 2  # pixels a pixel, in the picture of digits


@click.command("report-change")
@click.argument("base")
@click.argument("head")
@click.option("--markdown", "form", flag_value="markdown", default="markdown", help="As Markdown; this is the default.")
@click.option("--json", "form", flag_value="json", help="The numbers, for programs.")
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Draw digits and curves into FOLDER and link them.",
)
@click.option("--links", metavar="PREFIX", help="What a link begins with in place of FOLDER, such as a web address.")
@click.option("--embed", is_flag=True, help="Put the pictures into the text, for readers that show `data:` addresses.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the latents that both draw.")
def report_change(base, head, form, pictures, links, embed, seed):
    """Report what changes from BASE to HEAD.

    Parameters, metrics with intervals and a verdict, and pictures on request, for a pull or merge request. BASE and HEAD are
    tags, branches, commits, experiments or versions, or "." for the working tree. What is missing is a line in the report.
    """
    if links and not pictures:
        raise click.UsageError("--links says where the pictures of --pictures FOLDER are; give both")
    if embed and links:
        raise click.UsageError("--embed needs no links; give --embed or --links")
    two = comparison.find_both(Repository.around(Path.cwd()), base, head)
    if form == "json":
        click.echo(json.dumps(_as_dict(two), indent=2))
        return
    from gan.pages import change

    warnings = two.warnings()
    shown = _pictures(two, seed=seed, missing=warnings) if pictures or embed else {}
    if pictures:
        for name, (_, content) in shown.items():
            write_bytes(pictures / name, content)
    click.echo(
        change.markdown(
            old=base,
            new=head,
            commits=[comparison.described(run) for run in (two.old, two.new)],
            verdict=two.verdict(shown=change.code(two.gate.metric), quote=change.code),
            warnings=warnings,
            rows=change.metric_rows(two.metrics),
            notes=change.noise_notes(two.metrics, metric=two.gate.metric, margin=two.gate.margin, names=change.code),
            parameters=two.parameters,
            pictures=[(text, _link(name, content, pictures, links, embed)) for name, (text, content) in shown.items()],
        ),
        nl=False,
    )


def _pictures(two, *, seed, missing):
    """File name -> (description, PNG); a line for each thing that cannot be drawn goes to `missing`."""
    found = {}
    try:
        drawn = comparison.draw(two, seed=seed, missing=missing)
    except DataError as error:  # a damaged model is news for the reviewers, and no reason to tell them nothing
        missing.append(str(error))
        drawn = None
    if drawn is not None:
        from gan.images import enlarge
        from gan.pages import png
        from gan.pages.compare_pictures import in_a_row

        grids = [grid for grid in (drawn.old, drawn.new, drawn.difference) if grid is not None]
        text = drawn.why_not or "Left: old. Middle: new, from the same latents. Right: the difference, pixel by pixel."
        found["digits.png"] = (text, png.encode(enlarge(in_a_row(grids), _SCALE)))
    from gan.pages import compare_charts

    try:
        curves = compare_charts.png(comparison.overlay(two, missing=missing))
    except DataError as error:
        missing.append(str(error))
        curves = None
    if curves is not None:
        found["curves.png"] = ("Curves: old solid, new dashed.", curves)
    return found


def _link(name, content, folder, prefix, embed):
    if embed:
        from gan.pages import png

        return png.data_uri(content)
    return f"{prefix.rstrip('/')}/{name}" if prefix else Path(os.path.relpath(folder / name)).as_posix()


def _as_dict(two):
    return {
        "old": {"name": two.old.name, "commit": two.old.commit, "stale": two.stale(two.old)},
        "new": {"name": two.new.name, "commit": two.new.commit, "stale": two.stale(two.new)},
        "verdict": two.verdict(shown=two.gate.metric),
        "warnings": two.warnings(),
        "metrics": [{**dataclasses.asdict(one), "beyond_noise": one.beyond_noise} for one in two.metrics],
        "parameters": [{"name": name, "old": old, "new": new} for name, old, new in two.parameters],
    }
