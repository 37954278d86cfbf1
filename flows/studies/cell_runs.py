"""The flow runs of cells on a Prefect server: asked for, looked at, given up, cancelled. The server may be away for a while.

A cell's run has an idempotency key of the commit and all that the cell depends on. So a coordinator that is started again finds
the runs that an earlier one asked for, and no cell is asked for twice.
"""

import contextlib
import datetime
import itertools
import math
import time

import httpx
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Completed, Crashed

from flows.signals import signals_held
from gan.errors import UserError

PAUSE_SECONDS = 2  # between two requests for the same
_SILENCE_SECONDS = 300  # of the server, after which the coordinator gives up
_PENDING_SECONDS = 120  # from a worker's taking a run to the start of the run's process
_AT_ONCE = 100  # runs a request, fewer than MOST_AT_ONCE


def ask(study, cell, deployment):
    """The id of the run of a Cell: one that was asked for before and has not ended, or a new one."""
    parameters = {
        "name": study.name,
        "definition": study.text,
        "base": study.base,
        "variant": cell.variant,
        "seed": cell.seed,
        "machine": study.machine,
    }
    for attempt in itertools.count():
        run = _patiently(
            lambda attempt=attempt: run_deployment(
                deployment,
                parameters=parameters,
                flow_run_name=cell.name,
                idempotency_key=f"{study.base}-{cell.key}-{attempt}",
                timeout=0,
            )
        )
        if run is None:
            raise UserError(f"there is no deployment {deployment}; `gan deploy` makes it")
        if run.state is None or not run.state.is_final():  # one that has ended has left no record
            return run.id
    return None


def states(runs):
    """Id -> state of flow runs; without those that somebody has deleted."""
    return _patiently(lambda: _states(list(runs)))


def lost(state, settings):
    """Whether nobody can be at work on a run any more: its worker was killed before the run's process could tell."""
    age = (datetime.datetime.now(datetime.UTC) - state.timestamp).total_seconds()
    longest = {"PENDING": _PENDING_SECONDS, "RUNNING": settings.timeout_seconds + 2 * settings.grace_seconds}
    return age > longest.get(state.type.value, math.inf)


def give_up(run):
    """Let a run that is lost end; its state."""
    return _set(run, Crashed(message="its worker is gone"))


def end_well(run):
    """Let a run end that has done its work and cannot tell; its state."""
    return _set(run, Completed(message="its record is there; the run itself was not heard of again"))


def cancel(runs):
    """Cancel runs, as far as the server can be reached."""
    with signals_held(), contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        for run in runs:
            with contextlib.suppress(ObjectNotFound):
                client.set_flow_run_state(run, Cancelling(message="the study was stopped"))


def _states(runs):
    found = []
    with get_client(sync_client=True) as client:
        for start in range(0, len(runs), _AT_ONCE):
            some = FlowRunFilterId(any_=runs[start : start + _AT_ONCE])
            found += client.read_flow_runs(flow_run_filter=FlowRunFilter(id=some))
    return {str(run.id): run.state for run in found}


def _set(run, state):
    def attempt():
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run, state, force=True)

    _patiently(attempt)
    return state


def _patiently(request):
    """What `request()` returns, asked again while the server restarts; None where it knows no such thing."""
    end = time.monotonic() + _SILENCE_SECONDS
    while True:
        try:
            return request()
        except ObjectNotFound:
            return None
        except httpx.HTTPError as error:  # the cells go on meanwhile
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                raise UserError(f"the Prefect server refused: {' '.join(str(error).split())[:300]}") from None
            if time.monotonic() > end:
                raise UserError(f"the Prefect server is out of reach ({error}); the same command goes on from there") from None
        time.sleep(PAUSE_SECONDS)
