"""`gan versions`: the recorded runs with their metrics: list them, show one, compare two, prune old ones."""

import dataclasses
import json
from pathlib import Path

import click

from flows import prune as pruning
from flows import versions as recorded
from flows.git import Repository
from flows.metrics import compare as compare_metrics
from flows.request import Parameters
from gan.params import PARAMS

as_json = click.option("--json", "as_json", is_flag=True, help="Everything, for programs.")


@click.group()
@click.pass_context
def versions(context):
    """List the recorded runs with their metrics, show one, compare two, and prune old ones.

    A version is a tag run/<UTC>-<id>; `git checkout TAG && dvc checkout` gives its files back, byte for byte. NAME, OLD and NEW
    are such a tag, the end or beginning of one, or an accepted version such as generator@v1.2.0.
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
        click.echo("no versions yet; a scheduled run, or `gan flow --commit`, records one")
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
@click.pass_obj
def compare(repository, old, new):
    """Compare two versions.

    Prints their metrics side by side and the parameters that differ.
    """
    old, new = recorded.find(repository, old), recorded.find(repository, new)
    rows = compare_metrics(recorded.metrics(repository, new), recorded.metrics(repository, old))
    print_table(
        [["metric", old.tag, new.tag, "change"]]
        + [[row["metric"], number(row["previous"]), number(row["value"]), row["change"]] for row in rows]
    )
    difference = repository.git("diff", "--unified=0", old.commit, new.commit, "--", PARAMS)
    changed = [line for line in difference.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    click.echo("\n".join(["", "parameters:", *(changed or ["  no difference"])]))


@versions.command()
@click.option("--keep", type=click.IntRange(min=1), required=True, metavar="COUNT", help="How many of the newest versions stay.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--remote", is_flag=True, help="Delete the tags on the git remote as well.")
@click.option("--git-remote", default="origin", show_default=True, metavar="NAME", help="That remote.")
@click.pass_obj
def prune(repository, keep, dry_run, remote, git_remote):
    """Delete old versions.

    The data that nothing else needs goes with them; accepted versions and the newest ones stay.
    """
    every = recorded.every(repository)
    doomed = pruning.doomed_versions(every, keep)
    for version in doomed:
        click.echo(f"{'would delete' if dry_run else 'deleting'} {version.tag}")
    if not doomed:
        click.echo(f"nothing to prune: {len(every)} versions, all among the newest {keep} or accepted")
        return
    pruning.require_pushed(repository, doomed, git_remote)
    if not dry_run:
        from_remote = git_remote if remote and repository.has_remote(git_remote) else None
        click.echo(pruning.prune(repository, doomed, from_remote=from_remote, log=click.echo))


def row_of(repository, version):
    """A version as a dict with its metrics."""
    row = dataclasses.asdict(version)
    del row["metrics_files"]
    return {**row, "metrics": recorded.metrics(repository, version)}


def number(value):
    """A metric's value for a table."""
    return f"{value:.6g}" if isinstance(value, int | float) else str("" if value is None else value)


def print_table(rows):
    """Print rows of strings in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
