"""Serve the pipeline with a schedule: runs start by themselves as long as this command and a Prefect server run.

Each run works in a git worktree at an exact commit and records a version when something changed; your tree is not touched.
"""

import argparse
import os
import sys
import zoneinfo

from flows import overrides
from flows.git import top_level
from gan.errors import UserError

_START = "start one with `prefect server start`, then set PREFECT_API_URL=http://127.0.0.1:4200/api and try again"


def main():
    options = _parse()
    try:
        root = top_level(os.getcwd())
        os.chdir(root)
        text = overrides.apply(overrides.read(root, options.base), options.set)
        settings = overrides.settings_of(text)
        overrides.check(settings.check_command, text, str(root))
        schedule = _schedule(options)
        _require_server()
        _serve(options, schedule, settings)
    except UserError as error:
        sys.exit(f"python -m flows.schedule: {error}")


def _schedule(options):
    from prefect.schedules import Cron, Interval

    if options.timezone not in zoneinfo.available_timezones():
        raise UserError(f"--timezone {options.timezone!r}: unknown; expected a name such as Europe/Berlin or UTC")
    try:
        if options.cron:
            return Cron(options.cron, timezone=options.timezone)
        return Interval(options.interval_seconds, timezone=options.timezone)
    except ValueError as error:
        raise UserError(f"the schedule is not valid: {' '.join(str(error).split())}") from None


def _require_server():
    """A schedule without a server of its own never fires, so refuse it. Raises UserError."""
    import httpx
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:
        raise UserError(f"no Prefect server is set, and a schedule without one never fires; {_START}")
    try:
        httpx.get(f"{url}/health", timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        raise UserError(f"the Prefect server at {url} does not answer ({error}); {_START}") from None


def _serve(options, schedule, settings):
    from prefect.client.schemas.objects import ConcurrencyLimitConfig

    from flows.run import pipeline

    strategy = {"wait": "ENQUEUE", "skip": "CANCEL_NEW"}[settings.overlap]
    pipeline.serve(
        name=options.name,
        schedule=schedule,
        global_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=strategy),
        parameters={
            "overrides": options.set,
            "isolated": True,
            "base": options.base,
            "dated_seed": options.dated_seed,
        },
    )


def _parse():
    parser = argparse.ArgumentParser(
        prog="python -m flows.schedule", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    when = parser.add_mutually_exclusive_group(required=True)
    when.add_argument("--cron", metavar="EXPRESSION", help='five fields, such as "0 2 * * *" for two o\'clock every night')
    when.add_argument("--interval-seconds", type=_positive, metavar="SECONDS", help="the time from one start to the next")
    add("--timezone", default="UTC", help="of the cron expression (default: UTC)")
    add("--name", default="schedule", help="of the deployment (default: schedule)")
    add("--base", default="HEAD", metavar="REVISION", help="the commit, branch or tag that runs start from (default: HEAD)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter of every run; repeatable")
    add("--dated-seed", metavar="KEY", help="a parameter that gets the run's date as its value, such as train.seed")
    return parser.parse_args()


def _positive(text):
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, got {text}")
    return value


if __name__ == "__main__":
    main()
