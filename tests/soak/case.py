"""What a campaign is made of: kinds of cases, each with a strategy that makes them up and a function that runs one."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

# What can be wrong with a case, in the order of the table's columns.
FAULTS = {
    "traceback": "tracebacks",
    "crash": "crashes",
    "hang": "hangs",
    "memory": "memory",
    "outside": "outside",
    "accepted wrongly": "wrongly in",
    "refused wrongly": "wrongly out",
    "unclear": "unclear",
    "differs": "differ",
    "orphan": "orphans",
    "leftover": "leftovers",
}

JOBS_VARIABLE = "SOAK_JOBS"  # in a worker's environment: how many cases run at a time


def mostly(good, others):
    """A strategy that is right three times of four, so that a case with several parts is now and then right as a whole."""
    return st.integers(0, 3).flatmap(lambda dice: others if dice == 3 else st.just(good))


class AcceptedWrongly(Exception):
    """The program took what it should have refused, or gave another result than the input says."""


class NotChecked(Exception):
    """The case could not be run here, for a reason outside the program that the message names."""


class RefusedWrongly(Exception):
    """The program refused what is right."""


class Fault(Exception):
    """A case went wrong in the way `outcome`, one of FAULTS."""

    def __init__(self, outcome, message):
        super().__init__(message)
        self.outcome = outcome


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of cases.

    cases: a Hypothesis strategy of JSON values. run(case, folder): does what a user would with the case, in an empty folder of
    its own. It raises UserError where the program refuses, AcceptedWrongly, RefusedWrongly or Fault where that was wrong,
    NotChecked where it cannot say, and returns otherwise; any other exception is a traceback that a user would have seen.
    warm_up(): what to import before limits hold. spawns: whether the code may start other programs, for which no limits on
    memory hold. share: of a campaign's cases, relative to the other kinds. seconds, warm_up_seconds: after which a case, or the
    warming up, is a hang.
    """

    cases: Any
    run: Callable[[Any, Path], None]
    warm_up: Callable[[], None] = lambda: None
    group: str = "light"  # kinds of one group share worker processes
    spawns: bool = False
    share: float = 1.0
    seconds: float = 20.0
    warm_up_seconds: float = 120.0
    limit_bytes: int = 1_000_000_000  # of memory; less where growth without end would take long to get there
    smallest: bool = True  # whether a failure is made smaller; not for cases that take seconds


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of one case: "accepted", "refused", "not checked" or one of FAULTS; the message or traceback; what it took."""

    outcome: str
    message: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0

    @property
    def failed(self):
        return self.outcome in FAULTS

    @property
    def signature(self):
        """What makes two failures the same: the outcome, and for a traceback its class and the line of this project's code."""
        if self.outcome not in ("traceback", "memory"):
            return (self.outcome, re.sub(r"[0-9a-f]*\d[0-9a-f]*", "", self.message.partition("\n")[0])[:60])
        places = re.findall(r'File "[^"]*/((?:gan|stages|commands|flows)/[^"]+)", line (\d+)', self.message)
        last = self.message.strip().splitlines()[-1:]
        return (self.outcome, *last[0].split(":")[:1], *places[-1:]) if last else (self.outcome,)
