"""A study from what is done to its end, wherever its cells run."""

from flows.studies.progress import metrics_of, progress_of


def carry_out(study, run_each, *, until_decided, tell):
    """Run what the Study wants until it wants no more; returns the Outcomes of the cells that failed.

    run_each: a function from Cells to an iterable of their Outcomes, in the order in which they end.
    tell: gets (number, count, Outcome) of each. Raises DataError at the first run that lacks a metric that decides.
    """
    failures = {}
    while True:
        cells = progress_of(study).missing(until_decided=until_decided, failed=failures.keys())
        if not cells:
            return list(failures.values())
        for number, outcome in enumerate(run_each(cells), 1):
            tell(number, len(cells), outcome)
            if outcome.failure:
                failures[outcome.cell.key] = outcome
            else:
                metrics_of(study, outcome.record)  # the same is wrong with all that would follow
