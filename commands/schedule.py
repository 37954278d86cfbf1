"""`gan schedule`: the pipeline on a schedule, served by this process."""

import datetime
import os
from pathlib import Path

import click

from commands.options import positive
from flows.git import Repository
from flows.request import RunRequest
from flows.schedule import parse_schedule, require_server, serve


@click.command()
@click.option("--cron", metavar="EXPRESSION", help='Five fields, such as "0 2 * * *" for two o\'clock every night.')
@click.option("--interval-seconds", type=float, callback=positive, metavar="SECONDS", help="The time from one start to the next.")
@click.option("--timezone", default="UTC", show_default=True, help="Of the cron expression and of --dated-seed.")
@click.option("--name", default="schedule", show_default=True, help="Of the deployment.")
@click.option("--base", default="HEAD", show_default=True, metavar="REVISION", help="The commit, branch or tag of every run.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A parameter of every run; repeatable.")
@click.option("--dated-seed", metavar="KEY", help="A parameter that gets the run's date as its value, such as train.seed.")
def schedule(cron, interval_seconds, timezone, name, base, overrides, dated_seed):
    """Run the pipeline on a schedule, as long as this command and a Prefect server run.

    Give --cron or --interval-seconds. Each run works in a git worktree at an exact commit and records a version when something
    changed; your tree is not touched.
    """
    if (cron is None) == (interval_seconds is None):
        raise click.UsageError("expected one of --cron and --interval-seconds")
    repository = Repository.around(Path.cwd())
    os.chdir(repository.root)
    request = RunRequest(overrides=overrides, base=base, dated_seed=dated_seed, timezone=timezone)
    parameters = request.on(datetime.datetime.now(datetime.UTC)).parameters(repository)
    parameters.check(repository.root)
    when = parse_schedule(cron=cron, interval_seconds=interval_seconds, timezone=timezone)
    require_server()
    serve(request, name=name, schedule=when, overlap=parameters.settings.overlap)
