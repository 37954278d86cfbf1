"""`gan study`: is a change better? Many runs, one for each variant and seed, and what may be said of their differences."""

import contextlib
import difflib
import os
import signal
from pathlib import Path

import click

from commands import study_report
from commands.versions import number, print_table
from flows.git import Repository
from flows.metrics import NOISE_SUFFIX, recorded_metrics
from flows.parent import import_prefect
from flows.studies import local, results, statistics
from flows.studies.carry_out import carry_out
from flows.studies.cells import find_study
from flows.studies.params import BASELINE
from flows.studies.progress import progress_of, rule_of
from gan.errors import DataError, UserError
from gan.pages.tables import METRICS

base_option = click.option("--base", default="HEAD", show_default=True, metavar="REVISION", help="The commit that is studied.")
until_decided_option = click.option(
    "--until-decided", is_flag=True, help="Add seeds, up to the file's seeds.most, until each comparison is decided."
)


@click.group()
@click.pass_context
def study(context):
    """Compare variants over many runs, with their uncertainty.

    NAME is a file of studies/ without its .yaml; docs/studies.md says what stands in it. Every run is one of the pipeline at an
    exact commit, in a git worktree: your edits are neither seen nor touched, and what was run before is not run again.
    """
    repository = Repository.around(Path.cwd())
    os.chdir(repository.root)
    context.obj = repository


@study.command()
@click.argument("name")
@base_option
@click.pass_obj
def plan(repository, name, base):
    """Say what a study would cost and what it can find: runs, seconds, what is cached, how many seeds it takes."""
    found = find_study(repository, name, base)
    _warn_of_metrics(found)
    missing = progress_of(found).missing(until_decided=False)
    collected = local.collect(found, missing, log=_silent) if missing else 0
    progress = progress_of(found)
    missing = progress.missing(until_decided=False)
    params, rule = found.params, rule_of(found)
    total = len(found.variants) * params.seeds.count
    click.echo(f"{params.question}\n")
    variants = f"{len(found.variants)} variants, {params.seeds.count} seeds each" if found.compares else "seeds of the baseline"
    click.echo(f"{total} runs: {variants}, at commit {found.base[:12]}")
    click.echo(f"{total - len(missing)} are done or cached, {len(missing)} are to be run" + _duration(progress, len(missing)))
    if collected is None:
        click.echo("another run is at work here, so DVC's cache was not asked for more")
    if not found.compares:
        share = 100 * statistics.share_beyond(total, statistics.ERROR_RATE / len(params.metrics))
        click.echo(f"\nIn 95 of 100 studies no more than {share:.2g} % of all runs are worse than the worst of these.")
        return
    if params.seeds.most > params.seeds.count:
        looks = ", ".join(map(str, rule.looks))
        click.echo(f"with --until-decided up to {len(found.variants) * params.seeds.most} runs, judged at {looks} seeds")
    click.echo("\nIn nine of ten studies this finds:")
    for metric, goal in params.metrics.items():
        click.echo(f"  {metric}: {_reach(progress, rule, metric, goal)}")


@study.command()
@click.argument("name")
@base_option
@until_decided_option
@click.option(
    "--workers", is_flag=True, help="Have Prefect's workers run it: one flow run a cell, of the deployment study-cell/cells."
)
@click.option("--verbose", is_flag=True, help="Print what the stages print.")
@click.pass_context
def run(context, name, base, until_decided, workers, verbose):
    """Carry a study out: run what is not done yet, then write its report.

    Ctrl-C stops the runs under way in order, and the same command goes on from there. Ends with 0, with 1 if a run failed, with
    130 if it was stopped.
    """
    found = find_study(context.obj, name, base)
    _warn_of_metrics(found)

    def tell(number, count, outcome):
        click.echo(f"[{number}/{count}] {_said(context.obj, outcome, found.params.metrics)}")

    if workers:
        import_prefect()
        from flows.studies import fanout

        fanout.require_server()
        state = fanout.coordinate(found, deployment=fanout.DEPLOYMENT, until_decided=until_decided, tell=tell, say=click.echo)
        click.echo(f"{state.name}: {state.message}")
        code = 130 if state.is_cancelled() else 0 if state.is_completed() else 1
    else:
        log = click.echo if verbose else _silent

        def run_each(cells):
            for number, cell in enumerate(cells, 1):
                click.echo(f"[{number}/{len(cells)}] {_named(cell)} …")
                yield from local.run_each(found, [cell], log=log)

        with _stopped_by_sigterm():
            failures = carry_out(found, run_each, until_decided=until_decided, tell=tell)
        if failures:
            click.echo(f"gan: {len(failures)} of the runs failed; the same command tries them again", err=True)
        code = 1 if failures else 0
    progress = progress_of(found)
    _print(progress)
    if progress.done[BASELINE] and (more := _more_runs_written(progress)):
        click.echo(f"{more}: it stays as it is; `gan study report {name} --force` replaces it", err=True)
    else:
        _write_report(progress)
    context.exit(code)


study.add_command(run, "resume")


@study.command()
@click.argument("name")
@base_option
@click.pass_obj
def status(repository, name, base):
    """Say which runs of a study are done, and what they say so far."""
    _print(progress_of(find_study(repository, name, base)))


@study.command()
@click.argument("name")
@base_option
@click.option("--force", is_flag=True, help="Write them even where the files there tell of more runs than are recorded here.")
@click.pass_obj
def report(repository, name, base, force):
    """Write the results of a study to data/studies/NAME: tables, metrics, plots and a page."""
    progress = progress_of(find_study(repository, name, base))
    if not progress.done[BASELINE]:
        raise UserError(f"study {name}: nothing is done yet; `gan study run {name}` begins")
    if not force and (more := _more_runs_written(progress)):
        raise UserError(f"{more}; --force replaces it")
    _print(progress)
    _write_report(progress)


@study.command()
@click.argument("name")
@base_option
@click.option("-m", "--metric", "metrics", multiple=True, help="One more column, such as recall_percent; may be repeated.")
@click.pass_obj
def table(repository, name, base, metrics):
    """Print a Markdown table of a study, as docs/recipes.md has them: each variant's metrics, from lowest to highest seed."""
    progress = progress_of(find_study(repository, name, base))
    runs, said = study_report.known_runs(progress)
    here = sum(map(len, progress.done.values()))
    if sum(map(len, runs.values())) > here:
        commit = progress.study.base[:12]
        found = f"more than the {here} recorded runs of commit {commit}" if here else f"no run of commit {commit} is here"
        click.echo(f"{found}: as {study_report.RESULTS / name} has it", err=True)
    there = {metric for done in runs.values() for one in done for metric in one if not metric.endswith(NOISE_SUFFIX)}
    if unknown := [metric for metric in metrics if metric not in there]:
        raise UserError(
            f"study {name}: no run has a metric {unknown[0]!r}; there are {', '.join(sorted(there)) or 'no runs yet'}"
        )
    click.echo(study_report.markdown(progress, runs, said, metrics))


def _warn_of_metrics(study):
    """Say which of the metrics that decide are not known. A run may have one all the same: only its end tells."""
    try:
        committed = study.committed_metrics()
    except DataError:  # a file that is no JSON; a run writes it anew
        return
    known = [name for name in committed | METRICS if not name.endswith(NOISE_SUFFIX)]
    for metric in study.params.metrics if committed else ():
        if metric not in known:
            near = difflib.get_close_matches(metric, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            click.echo(f"study {study.name}: the metrics of commit {study.base[:12]} have no {metric!r}{hint}", err=True)


def _print(progress):
    """The state of a study, and its sentences."""
    params = progress.study.params
    rows = [["variant", "runs", *params.metrics]]
    for name, done in progress.done.items():
        row = [name, str(len(done))]
        for metric in params.metrics:
            values = [one.metrics[metric] for one in done]
            row.append(study_report.shown_estimate(statistics.estimate(values)) if values else "")
        rows.append(row)
    click.echo(f"{params.question}\n")
    print_table(rows)
    click.echo()
    for variant, metric, _, said in progress.sentences():
        click.echo(f"{variant}, {metric}: {said}")


def _write_report(progress):
    """Write the files of data/studies, where there is something to show."""
    if progress.done[BASELINE]:
        click.echo(f"\n{study_report.write(progress)}")


def _more_runs_written(progress):
    """A text where the files of data/studies tell of more runs than are recorded here; else None."""
    there, here = study_report.runs_written(progress.study.name), sum(map(len, progress.done.values()))
    if there > here:
        return f"{study_report.RESULTS / progress.study.name} tells of {there} runs, and {here} are recorded here"
    return None


def _said(repository, outcome, metrics):
    start = f"{_named(outcome.cell)}: "
    if outcome.failure:
        return f"{start}failed: {outcome.failure}"
    made = f"ran {outcome.record.seconds:.0f} s" if outcome.record.seconds else "restored"
    found = recorded_metrics(repository, outcome.record)
    return start + ", ".join([made, *(f"{metric} {number(found.get(metric))}" for metric in metrics)])


def _named(cell):
    return f"{cell.variant}, seed {cell.seed}"


def _duration(progress, runs):
    seconds = [one.record.seconds for done in progress.done.values() for one in done if one.record.seconds]
    if not runs:
        return ""
    if not seconds:
        return "; nobody knows yet how long one takes"
    mean = sum(seconds) / len(seconds)
    return f": about {runs * mean:.0f} s, {mean:.0f} s each as measured"


def _reach(progress, rule, metric, goal):
    """What the planned seeds find of one metric, and how many find the smallest difference that matters."""
    seeds, rate = progress.study.params.seeds.count, rule.interval_rate
    if rule.paired:  # each side has half the variance of the difference of a pair
        sides = [results.common(progress, variant, metric) for variant in rule.variants]
        moving = [[(one - other) / 2**0.5 for one, other in zip(*side, strict=True)] for side in sides]
    else:
        moving = [progress.values(variant, metric) for variant in progress.done]
    deviations = [statistics.estimate(values).deviation for values in moving if len(values) > 1]
    spreads = statistics.found_with(seeds, 1.0, rate, paired=rule.paired)
    two = f"{statistics.seeds_for(2.0, 1.0, rate, paired=rule.paired)} seeds a variant for a difference of two"
    if not deviations or not max(deviations):
        return f"a difference of {spreads:.1f} standard deviations over seeds with {seeds} seeds a variant; {two}"
    deviation = max(deviations)
    needed = statistics.seeds_for(goal.smallest_difference, deviation, rate, paired=rule.paired)
    wanted = f"{needed} seeds a variant" if needed else "no reasonable number of seeds"
    return (
        f"a difference of {number(float(f'{spreads * deviation:.2g}'))} with {seeds} seeds a variant; the smallest that matters, "
        f"{goal.smallest_difference:g}, takes {wanted} (deviation over {'pairs' if rule.paired else 'seeds'} {deviation:.2g})"
    )


@contextlib.contextmanager
def _stopped_by_sigterm():
    """SIGTERM in the block ends it as Ctrl-C does: the run under way saves."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _silent(line):
    """Nobody hears it."""
