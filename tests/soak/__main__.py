"""`python -m tests.soak`: run the campaigns, print a table of counts, leave a folder for each failure.

The same seed and code give the same cases. A failure's folder holds the case, made as small as it could be, the files made of it,
what happened, and repro.sh, a line that repeats it. The exit code is 1 if there is a failure, and 3 if there is none but a case
could not be checked here: a line below the table says why.
"""

import signal
import sys
import time
from pathlib import Path

import click

from tests.soak import frame

UNCHECKED = 3  # the exit code of a campaign that found nothing because it could not look


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("campaigns", nargs=-1, metavar="[CAMPAIGN[/KIND] ...]")
@click.option("--seed", default=0, show_default=True, help="Another number, other cases.")
@click.option("--count", type=click.IntRange(min=1), help="Cases of each campaign; by default what the campaign says.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Cases at a time.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(".scratch/soak"), show_default=True, metavar="FOLDER")
@click.option("--shrink-seconds", default=30.0, show_default=True, help="To make each failure small.")
@click.option("--replay", type=click.Path(exists=True, path_type=Path), metavar="CASE.JSON", help="Run one case that failed.")
@click.option("--list", "list_only", is_flag=True, help="List the campaigns and their kinds.")
def main(campaigns, seed, count, jobs, out, shrink_seconds, replay, list_only):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what runs is ended in order
    if replay:
        verdict = frame.replay(replay)
        click.echo(f"{verdict.outcome} after {verdict.seconds:.1f} s, {verdict.peak_bytes / 1e6:.0f} MB\n{verdict.message}")
        sys.exit(1 if verdict.failed else 0)
    chosen = {}
    for word in campaigns or frame.CAMPAIGNS:
        name, _, kind = word.partition("/")
        if name not in frame.CAMPAIGNS or (kind and kind not in frame.kinds_of(name)):
            raise click.UsageError(f"there is no campaign {word!r}; --list shows all")
        chosen.setdefault(name, []).extend([kind] if kind else [])
    if list_only:
        for name in chosen:
            click.echo(f"{name}: {', '.join(frame.kinds_of(name))}")
        return
    start = time.monotonic()
    rows = {}
    for name, kinds in chosen.items():
        found = frame.run_campaign(
            name,
            seed=seed,
            count=count or frame.default_count(name),
            out=out,
            kinds=kinds,
            shrink_seconds=shrink_seconds,
            jobs=jobs,
        )
        rows |= {f"{name}/{kind}": row for kind, row in found.items()}
        for kind, why in frame.left_out(name).items():
            click.echo(f"{name}/{kind} is left out: {why}")
    click.echo("\n".join(frame.table(rows)))
    for name, row in rows.items():
        for line in row.unchecked:
            click.echo(f"NOT CHECKED {name}: {line}")
    failures = sum(row.failures for row in rows.values())
    cases = sum(row.cases for row in rows.values())
    click.echo(
        f"seed {seed}: {cases} cases in {time.monotonic() - start:.0f} s, {failures} failed"
        + (f"; see {out}" if failures else "")
    )
    sys.exit(1 if failures else UNCHECKED if any(row.unchecked for row in rows.values()) else 0)


if __name__ == "__main__":
    main()
