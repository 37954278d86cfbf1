"""List the recorded runs with their metrics, show one, compare two, and prune old ones.

A version is a tag `run/<UTC>-<id>`; `git checkout TAG && dvc checkout` gives its files back, byte for byte. NAME below is such
a tag, the end or beginning of one, or an accepted version such as generator@v1.2.0.
"""

import argparse
import dataclasses
import json
import os
import sys

from flows import overlap, overrides, record
from flows.dvc_session import DvcSession
from flows.gate import compare as compare_metrics
from flows.git import git, has_remote, top_level
from gan.errors import UserError


def main():
    options = _parse()
    try:
        root = top_level(os.getcwd())
        options.action(root, options)
    except UserError as error:
        sys.exit(f"python -m flows.versions: {error}")


def list_versions(root, options):
    """Print all versions, newest first."""
    every = [_row(root, version) for version in record.versions(root)]
    if options.json:
        print(json.dumps(every, indent=2))
        return
    if not every:
        print("no versions yet; a scheduled run, or `python -m flows.pipeline --commit`, records one")
        return
    gate = overrides.settings_of(overrides.read(root)).gate
    rows = [["version", gate.metric, gate.noise, "gate", "accepted as", "pushed"]]
    for item in every:
        shown = [_number(item["metrics"].get(key)) for key in (gate.metric, gate.noise)]
        rows.append([item["tag"], *shown, item["gate"], item["accepted_as"] or "", "yes" if item["pushed"] else "no"])
    _print_table(rows)


def show(root, options):
    """Print one version: where it comes from, the gate's words, all metrics."""
    item = _row(root, record.find(root, options.name))
    if options.json:
        print(json.dumps(item, indent=2))
        return
    for key in ("tag", "commit", "base", "flow_run", "gate", "gate_message", "accepted_as", "pushed"):
        print(f"{key.replace('_', ' ')}: {item[key]}")
    _print_table([["metric", "value"], *([key, _number(value)] for key, value in item["metrics"].items())])


def compare(root, options):
    """Print two versions' metrics and the parameters that differ."""
    old, new = record.find(root, options.old), record.find(root, options.new)
    rows = compare_metrics(record.metrics(root, new), record.metrics(root, old))
    _print_table(
        [["metric", old.tag, new.tag, "change"]]
        + [[row["metric"], _number(row["previous"]), _number(row["value"]), row["change"]] for row in rows]
    )
    difference = git(root, "diff", "--unified=0", old.commit, new.commit, "--", overrides.PARAMS)
    changed = [line for line in difference.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    print("\n".join(["", "parameters:", *(changed or ["  no difference"])]))


def prune(root, options):
    """Delete old versions and the data that nothing else needs; accepted versions and the newest ones stay."""
    every = record.versions(root)
    accepted = [version for version in every if version.accepted_as]
    keep = {version.tag for version in (*every[: options.keep], *accepted)}
    doomed = [version for version in every if version.tag not in keep]
    unpushed = [version.tag for version in doomed if not version.pushed and has_remote(root, options.git_remote)]
    for version in doomed:
        print(f"{'would delete' if options.dry_run else 'deleting'} {version.tag}")
    if not doomed:
        print(f"nothing to prune: {len(every)} versions, all among the newest {options.keep} or accepted")
        return
    if unpushed:
        raise UserError(f"{unpushed[0]} is not pushed yet; the next run pushes it, prune after that")
    lock = overlap.open_lock(root)
    note = {"name": "flows.versions prune"}
    with overlap.turn(root, lock=lock, policy="skip", note=note, log=print, deadline_reached=lambda: None):
        if options.dry_run:
            return
        tags = [version.tag for version in doomed]
        record.forget(root, tags)
        if options.remote and has_remote(root, options.git_remote):
            git(root, "push", "--quiet", options.git_remote, *(f":refs/tags/{tag}" for tag in tags))
        with DvcSession(root, grace_seconds=10, held_files=(lock,)) as session:
            # whatever any branch, tag, experiment or the working tree names stays
            code, lines = session.dvc("gc", "--workspace", "--all-commits", "--all-experiments", "--force")
        if code != 0:
            raise UserError(f"dvc gc: {' '.join(lines[-3:])}")
        print(next((line for line in lines if line.startswith(("Removed", "No unused"))), ""))


def _parse():
    parser = argparse.ArgumentParser(
        prog="python -m flows.versions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name, action):
        command = commands.add_parser(name, help=action.__doc__, description=action.__doc__)
        command.set_defaults(action=action)
        return command.add_argument

    add("list", list_versions)("--json", action="store_true", help="everything, for programs")
    argument = add("show", show)
    argument("name", metavar="NAME")
    argument("--json", action="store_true", help="everything, for programs")
    argument = add("compare", compare)
    argument("old", metavar="OLD")
    argument("new", metavar="NEW")
    argument = add("prune", prune)
    argument("--keep", type=_at_least_one, required=True, metavar="COUNT", help="how many of the newest versions stay")
    argument("--dry-run", action="store_true", help="only say what would be deleted")
    argument("--remote", action="store_true", help="delete the tags on the git remote as well")
    argument("--git-remote", default="origin", metavar="NAME", help="(default: origin)")
    return parser.parse_args()


def _at_least_one(text):
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return int(text)


def _row(root, version):
    row = dataclasses.asdict(version)
    del row["metrics_files"]
    return {**row, "metrics": record.metrics(root, version)}


def _number(value):
    return f"{value:.6g}" if isinstance(value, int | float) else str("" if value is None else value)


def _print_table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
