"""`gan flow`: the pipeline once, as a Prefect flow on the configured server or an embedded one."""

import os

import click
from click.core import ParameterSource

from flows.request import RunRequest
from flows.start import ServerLost, run_once
from gan.errors import UserError


@click.command()
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A parameter, such as train.steps=1000; repeatable.")
@click.option("--stage", metavar="NAME", help="Only this stage and what it needs.")
@click.option("--force", is_flag=True, help="Run again what has not changed (with --stage: that stage only).")
@click.option("--commit", is_flag=True, help="Commit and tag the result, push it where remotes are configured.")
@click.option("--isolated", is_flag=True, help="Work in a git worktree at --base and record the result as a version.")
@click.option("--base", default="HEAD", show_default=True, metavar="REVISION", help="Where an isolated run starts.")
@click.option("--dated-seed", metavar="KEY", help="A parameter that gets today's date in UTC as its value, such as train.seed.")
@click.pass_context
def flow(context, **options):
    """Run every stage of dvc.yaml in order, as a Prefect flow on the configured server or an embedded one.

    The stages run in your working tree, and the commit is yours to make (or --commit). With --isolated they run in a git
    worktree at an exact commit, as scheduled runs do: your edits are neither seen nor touched, and the result is recorded as a
    version. Ends with 0, with 1 after a failure, with 130 if it was stopped.
    """
    if context.get_parameter_source("base") is not ParameterSource.DEFAULT and not options["isolated"]:
        raise UserError("--base is where an isolated run starts: give --isolated as well, or leave it out")
    try:
        state = run_once(RunRequest(**options))
    except ServerLost as error:
        click.echo(f"gan: {error}", err=True)
        os._exit(1)  # Prefect would spend minutes trying to deliver its events
    click.echo(f"{state.name}: {state.message}" if state.message else state.name)
    context.exit(130 if state.is_cancelled() else 0 if state.is_completed() else 1)
