"""`gan versions`: the recorded runs with their metrics: list them, show one, compare two, prune old ones."""

import dataclasses
import json
from pathlib import Path

import click

from commands import comparison
from flows import prune as pruning
from flows import versions as recorded
from flows.git import Repository
from flows.metrics import recorded_metrics
from flows.request import Parameters
from gan.files import write_bytes
from gan.pages import change
from gan.pages.tables import name_of

as_json = click.option("--json", "as_json", is_flag=True, help="Everything, for programs.")


@click.group()
@click.pass_context
def versions(context):
    """List the recorded runs with their metrics, show one, compare two, and prune old ones.

    A version is a tag run/<UTC>-<id>; `git checkout TAG && dvc checkout` gives its files back, byte for byte. NAME is such a
    tag, the end or beginning of one, or an accepted version such as generator@v1.2.0.
    """
    context.obj = Repository.around(Path.cwd())


@versions.command("list")
@as_json
@click.pass_obj
def list_versions(repository, as_json):
    """List all versions, newest first."""
    every = [row_of(repository, version) for version in recorded.every(repository)]
    if as_json:
        click.echo(json.dumps(every, indent=2))
        return
    if not every:
        click.echo("no versions yet; a scheduled run, or `gan flow --commit`, records one where something changed")
        return
    gate = Parameters.in_tree(repository).settings.gate
    rows = [["version", gate.metric, gate.noise, "gate", "accepted as", "pushed"]]
    for item in every:
        shown = [number(item["metrics"].get(key)) for key in (gate.metric, gate.noise)]
        rows.append([item["tag"], *shown, item["gate"], item["accepted_as"] or "", "yes" if item["pushed"] else "no"])
    print_table(rows)


@versions.command()
@click.argument("name")
@as_json
@click.pass_obj
def show(repository, name, as_json):
    """Show one version.

    Where it comes from, what the gate says of it, all its metrics.
    """
    item = row_of(repository, recorded.find(repository, name))
    if as_json:
        click.echo(json.dumps(item, indent=2))
        return
    for key in ("tag", "commit", "base", "flow_run", "gate", "gate_message", "accepted_as", "pushed"):
        click.echo(f"{key.replace('_', ' ')}: {item[key]}")
    print_table([["metric", "value"], *([key, number(value)] for key, value in item["metrics"].items())])


@versions.command()
@click.argument("old")
@click.argument("new")
@click.option(
    "--page",
    type=click.Path(path_type=Path, dir_okay=False),
    is_flag=False,
    flag_value=Path("comparison.html"),
    metavar="[FILE]",
    help="Write a page with pictures and curves as well; without FILE, comparison.html.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the latents that both draw.")
@click.pass_obj
def compare(repository, old, new, page, seed):
    """Compare two runs.

    Prints their metrics side by side, whether a change is more than noise, and the parameters that differ. OLD and NEW are
    versions, or any tags, branches, commits or experiments, or "." for the working tree. The page draws the same latents with
    both generators.
    """
    two = comparison.find_both(repository, old, new)
    rows = [["metric", two.old.name, two.new.name, "change", "more than noise"]]
    for one in change.metric_rows(two.metrics):
        rows.append([one["key"], one["old"], one["new"], one["change"], one["beyond"]])
    print_table(rows)
    click.echo("\n" + two.verdict(shown=two.gate.metric))
    lines = [f"  {name}: {before} -> {after}" for name, before, after in two.parameters]
    click.echo("\n".join(["", "parameters:", *(lines or ["  no difference"])]))
    for warning in two.warnings():
        click.echo(warning, err=True)
    if page is not None:
        write_bytes(page, _page(two, seed).encode())
        click.echo(f"\n{page}")


@versions.command()
@click.option("--keep", type=click.IntRange(min=1), required=True, metavar="COUNT", help="How many of the newest versions stay.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--remote", is_flag=True, help="Delete the tags on the git remote as well.")
@click.option("--git-remote", metavar="NAME", help="That remote; by default flow.git_remote of params.yaml.")
@click.pass_obj
def prune(repository, keep, dry_run, remote, git_remote):
    """Delete old versions.

    The data that nothing else needs goes with them; accepted versions and the newest ones stay. So do the tags on the git
    remote, and the next run learns of them again, without their data; --remote deletes them there.
    """
    every = recorded.every(repository)
    doomed = pruning.doomed_versions(every, keep)
    for version in doomed:
        click.echo(f"{'would delete' if dry_run else 'deleting'} {version.tag}")
    if not doomed:
        click.echo(f"nothing to prune: {len(every)} versions, all among the newest {keep} or accepted")
        return
    git_remote = git_remote or Parameters.in_tree(repository).settings.git_remote
    pruning.require_pushed(repository, doomed, git_remote)
    if not dry_run:
        from_remote = git_remote if remote and repository.has_remote(git_remote) else None
        click.echo(pruning.prune(repository, doomed, from_remote=from_remote, log=click.echo))


def _page(two, seed):
    """The page of the TwoRuns as a text; what is missing is said on it, and on standard error."""
    missing = []
    drawn = comparison.draw(two, seed=seed, missing=missing)
    curves = comparison.overlay(two, missing=missing)
    from gan.pages import compare, compare_charts, png

    pictures = None
    if drawn is not None:
        grids = {"old": drawn.old, "new": drawn.new, "difference": drawn.difference}
        pictures = {name: None if grid is None else png.data_uri(png.encode(grid)) for name, grid in grids.items()}
        pictures["why_not"] = drawn.why_not
    for line in missing:
        click.echo(line, err=True)
    return compare.render(
        old={"name": str(two.old), "commit": comparison.described(two.old)},
        new={"name": str(two.new), "commit": comparison.described(two.new)},
        verdict=two.verdict(shown=name_of(two.gate.metric)),
        warnings=[*two.warnings(), *missing],
        rows=change.metric_rows(two.metrics),
        notes=change.noise_notes(two.metrics, metric=two.gate.metric, margin=two.gate.margin, names=name_of),
        parameters=two.parameters,
        pictures=pictures,
        curves=[compare_charts.svg(chart) for chart in curves],
    )


def row_of(repository, version):
    """A version as a dict with its metrics."""
    row = dataclasses.asdict(version)
    del row["metrics_files"]
    return {**row, "metrics": recorded_metrics(repository, version)}


def number(value):
    """A metric's value for a table."""
    return f"{value:.6g}" if isinstance(value, int | float) else str("" if value is None else value)


def print_table(rows):
    """Print rows of strings in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
