"""A study's cells one after the other on this machine, without a server."""

import time
from dataclasses import dataclass

from flows.deadline import Deadline
from flows.ends import why_failed
from flows.lock import Skipped
from flows.studies.cells import Cell
from flows.studies.one_cell import a_place
from flows.studies.records import Record


@dataclass(frozen=True)
class Outcome:
    """What became of one Cell."""

    cell: Cell
    record: Record | None
    seconds: float  # from its start to its record
    failure: str | None = None  # one line


def run_each(study, cells, *, log):
    """Bring each of the Cells up to date; yields an Outcome as each ends. A failure stops none of the others.

    log: gets each line of DVC's and the stages' output.
    """
    for cell in cells:
        started, record, failure = time.monotonic(), None, None
        try:
            record = run_one(study, cell, log=log)
        except Exception as error:
            failure = why_failed(error)
        yield Outcome(cell, record, time.monotonic() - started, failure)


def run_one(study, cell, *, log, share=False, variables=None):
    """Bring one Cell up to date in a worktree of its own, alone in the repository; returns its Record.

    share: put its data on DVC's remote, if there is one. variables: more of the environment of its DVC process.
    """
    deadline = Deadline(study.settings.timeout_seconds)
    with a_place(study, log=log, deadline=deadline, variables=variables) as place:
        return place.bring(cell, deadline=deadline, share=share)


def collect(study, cells, *, log):
    """Record those of the Cells that DVC's cache on this machine has; runs nothing. Returns how many it found.

    None where another run is at work in the repository, which would have to be waited for.
    """
    deadline = Deadline(study.settings.timeout_seconds)
    try:
        with a_place(study, log=log, deadline=deadline, wait=False) as place:
            return sum(place.bring(cell, deadline=deadline, only_cached=True) is not None for cell in cells)
    except Skipped:
        return None
