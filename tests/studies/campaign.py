"""A study of many cells of a stub training, while a worker is killed again and again: every cell is recorded once, and right.

`python -m tests.studies.campaign --cells 100 --kill-every-seconds 20` prints what it saw, and ends with 1 if anything is wrong.
"""

import contextlib
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

from tests.helpers.study_fleet import Fleet
from tests.helpers.toy_project import server_in

_PATIENCE_SECONDS = 60  # for each cell, on a busy machine


@dataclass(frozen=True)
class Seen:
    """What a campaign came to."""

    cells: int
    kills: int
    runs: int  # flow runs that the coordinator asked for
    seconds: float
    code: int  # of the coordinator
    log: str  # what it printed
    wrong: list[str]
    trained_again: int  # cells whose training came to its end more than once: the worker died before others could learn of it


def campaign(folder, *, cells, kill_every_seconds, seed=0):
    """Run a study of `cells` cells on two workers in `folder`; returns what was Seen. `seed`: of who is killed, and when."""
    dice, home = random.Random(seed), Path(folder) / "server"
    with server_in(home) as (url, _):
        fleet = Fleet(folder, url, cells=cells)
        try:
            for number in range(2):
                fleet.start_worker(number)
            started, kills = time.monotonic(), 0
            coordinator = fleet.coordinate("coordinator.log")
            while coordinator.poll() is None and time.monotonic() - started < cells * _PATIENCE_SECONDS:
                _wait(coordinator, dice.uniform(0.5, 1.5) * kill_every_seconds)
                if coordinator.poll() is None:
                    victim = dice.randrange(2)
                    fleet.kill_worker(victim)
                    kills += 1
                    fleet.start_worker(victim)
            seconds = time.monotonic() - started
            runs = sum(run["name"].startswith("steps-") for run in fleet.runs())
        finally:
            fleet.close()
        log, again = fleet.project.log("coordinator.log"), len(fleet.trained_again())
        return Seen(cells, kills, runs, seconds, coordinator.poll(), log, fleet.wrong(), again)


def _wait(process, seconds):
    """Wait until the process ends, at most so long."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.2)


@click.command(help=__doc__)
@click.option("--cells", type=click.IntRange(min=4), default=100, show_default=True)
@click.option("--kill-every-seconds", type=click.FloatRange(min=1), default=20.0, show_default=True, help="On average.")
@click.option("--seed", default=0, show_default=True, help="Of who is killed, and when.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Leave all files in this new folder.")
def main(cells, kill_every_seconds, seed, keep):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what runs is ended as well
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="campaign-")))
        folder.mkdir(exist_ok=True)
        seen = campaign(folder, cells=cells, kill_every_seconds=kill_every_seconds, seed=seed)
    click.echo(seen.log)
    click.echo(
        f"{seen.cells} cells in {seen.seconds:.0f} s; a worker was killed {seen.kills} times; "
        f"{seen.runs} flow runs; {seen.trained_again} cells trained again; the coordinator ended with {seen.code}"
    )
    click.echo("\n".join([f"WRONG {line}" for line in seen.wrong] or ["every cell is recorded once, with its bytes"]))
    sys.exit(1 if seen.wrong or seen.code != 0 else 0)


if __name__ == "__main__":
    main()
