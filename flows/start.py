"""One run in this process, begun quickly: DVC, the check of the parameters and Prefect's import start side by side."""

import contextlib
import dataclasses
import gc
import importlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flows.dvc.session import DvcSession
from flows.git import Repository
from flows.lock import RunLock
from flows.parent import import_prefect
from gan.errors import UserError


class ServerLost(UserError):
    """The Prefect server went out of reach, or refused the run.

    The process had better end at once, or Prefect tries for minutes to reach it.
    """


def run_once(request):
    """Do what the RunRequest `request` asks for, as a Prefect flow in this process; returns its final state.

    Raises UserError for what is wrong before the flow starts, and ServerLost.
    """
    repository = Repository.around(Path.cwd())
    os.chdir(repository.root)
    parameters = request.parameters(repository)
    with contextlib.ExitStack() as stack:
        lock = session = None
        if not request.isolated:
            lock, grace = RunLock(repository), parameters.settings.grace_seconds
            session = DvcSession(repository.root, grace_seconds=grace, held_files=(lock.fileno(),), early=True)
            stack.enter_context(session)
        with ThreadPoolExecutor() as pool:
            check = pool.submit(parameters.check, repository.root)
            _import_prefect()
            notes = check.result()
        return _run_flow(request, parameters, notes, lock, session)


def _import_prefect():
    """Import the flow, which takes a second."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    gc.disable()  # Prefect's classes stay: looking for garbage among them takes a tenth of its import
    try:
        import_prefect()
        importlib.import_module("flows.pipeline")
    finally:
        gc.freeze()
        gc.enable()


def _run_flow(request, parameters, notes, lock, session):
    import httpx
    from prefect.exceptions import Abort

    from flows.pipeline import pipeline_here
    from flows.places import PreparedRun

    over = threading.Event()
    flow = pipeline_here(over, PreparedRun(parameters, notes, lock, session) if session else None)
    given = {**dataclasses.asdict(request), "overrides": list(request.overrides)}
    try:
        with a_server(parameters.settings.grace_seconds, over), without_heartbeats():
            return flow(**given, return_state=True)
    except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:  # Prefect says the latter of its first request
        if isinstance(error, RuntimeError) and not isinstance(error.__cause__, httpx.HTTPError):
            raise
        raise ServerLost(f"the Prefect server is out of reach ({error}); what the stages made is kept, run again") from None
    except Abort as error:  # it is out of memory, perhaps
        raise ServerLost(f"the Prefect server refused the run ({error}); what the stages made is kept, run again") from None


def a_server(grace_seconds, run_over):
    """Settings with a Prefect server, the configured one or one for this process alone; a context manager.

    grace_seconds, run_over: see `flows.embedded_server.start_embedded_server`.
    """
    from prefect.settings import (
        PREFECT_API_REQUEST_TIMEOUT,
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        PREFECT_UI_URL,
        temporary_settings,
    )

    from flows.embedded_server import start_embedded_server

    if PREFECT_API_URL.value():
        return contextlib.nullcontext()
    # a server on this machine that does not answer for so long never will, for want of memory perhaps; Prefect waits 6 minutes
    patience = _unless_set({PREFECT_API_REQUEST_TIMEOUT: 30.0, PREFECT_CLIENT_MAX_RETRIES: 3})
    # it serves no pages, so no link to one is shown
    return temporary_settings({**patience, PREFECT_API_URL: start_embedded_server(grace_seconds, run_over), PREFECT_UI_URL: ""})


def without_heartbeats():
    """Settings without Prefect's heartbeats, unless somebody asked for them; a context manager.

    Their thread wakes once a second and Prefect waits for it, so each run would take up to a second longer. A run from the
    command line has somebody watching; the next run tells the server if it was killed. Scheduled runs keep theirs.
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    return temporary_settings(_unless_set({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}))


def _unless_set(values):
    """Of `values`, a dict from Prefect's settings, those that neither the shell nor a profile has set."""
    from prefect.settings import get_current_settings

    there = get_current_settings().to_environment_variables(exclude_unset=True)
    return {setting: value for setting, value in values.items() if setting.name not in there}
