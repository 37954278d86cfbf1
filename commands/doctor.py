"""`gan doctor`: whether this machine and the server can be left alone."""

import os
from pathlib import Path

import click

from flows.git import Repository
from flows.parent import import_prefect
from flows.request import Parameters


@click.command()
@click.option("--pool", default="pipeline", show_default=True, help="The work pool.")
@click.pass_context
def doctor(context, pool):
    """Look at this machine, its remotes, the server, its runs and slots: a line each, and exit code 1 if one is BAD."""
    repository = Repository.around(Path.cwd())
    os.chdir(repository.root)
    import_prefect()
    from flows.operations import checks

    findings = [*checks.of_machine(repository, Parameters.in_tree(repository).settings), *checks.of_repository(repository)]
    if findings[0].good:
        findings += checks.of_runs(pool)
    for finding in findings:
        click.echo(finding)
    context.exit(0 if all(finding.good for finding in findings) else 1)
