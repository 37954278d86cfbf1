"""A run that Prefect has started, as a worker or a schedule does, ends with the process that started it."""

import base64
import contextlib
import ctypes
import io
import json
import os
import signal
import sys
import threading
from multiprocessing import resource_tracker

import pydantic

from gan.errors import UserError

_PARENT = "PIPELINE_PARENT"  # the serving process tells its runs its number
_PR_SET_PDEATHSIG = 1
MOST_AT_ONCE = 200  # things that one question to a Prefect server brings; it leaves the others out without a word


def announce():
    """Tell the runs that Prefect will start as children of this process who their parent is."""
    os.environ[_PARENT] = str(os.getpid())


def started_by_prefect():
    """Whether this process is a run that a worker or a schedule has started."""
    return "PREFECT__FLOW_RUN_ID" in os.environ or _PARENT in os.environ  # a worker says so, Prefect's runner does not


def import_prefect():
    """Import Prefect; raises UserError where its settings, of the shell or a profile, are none: it cannot be imported then."""
    said = io.StringIO()  # the same over several lines
    try:
        with contextlib.redirect_stderr(said):
            from prefect.settings import get_current_settings

            get_current_settings()
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False)[0]
        if found["loc"]:
            what = ".".join(map(str, (error.title, *found["loc"])))
            raise UserError(f"Prefect's settings are not valid: {what}: {found['msg']}; correct the variable PREFECT_…") from None
        url = os.environ.get("PREFECT_API_URL", "in Prefect's profile")  # no other is looked at as a whole
        reason = found["msg"].removeprefix("Value error, ")
        raise UserError(f"the Prefect server's address {url} is not valid ({reason}); correct PREFECT_API_URL") from None
    sys.stderr.write(said.getvalue())  # a warning, perhaps


def server_api():
    """The address of the Prefect server's API, without a slash at its end; "" where none is set. Raises UserError."""
    import_prefect()
    from prefect.settings import PREFECT_API_URL

    return (PREFECT_API_URL.value() or "").rstrip("/")


def login_headers():
    """The HTTP headers, a dict, by which Prefect's own client logs in to the server that is set."""
    from prefect.settings import PREFECT_API_AUTH_STRING

    login = PREFECT_API_AUTH_STRING.value()
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}


def no_answer(url, error):
    """Of a server whose API is to be at `url`: what `error`, one of httpx, says of it, such as "… does not answer (…)"."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.NOT_FOUND:
        return f"{url} has no API of Prefect's (404 Not Found); its address ends in /api as a rule"
    return f"{url} does not answer ({str(error).partition(chr(10))[0]})"


def end_to_tell(flow_run):
    """Variables by which a run's DVC process tells Prefect of its end where the run itself cannot, killed with its worker."""
    end = {"api": server_api(), "headers": login_headers(), "flow_run": str(flow_run), "parent": os.getppid()}
    return {"PIPELINE_RUN": json.dumps(end)}


def tell_of_kill(flow_run):
    """Tell Prefect's server, where one is set, that the process of this flow run was killed and that is news to it."""
    from prefect import get_client
    from prefect.states import Crashed

    if not server_api():  # Prefect would start one for some seconds, and say so
        return
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:  # another server's run, perhaps
        state = client.read_flow_run(flow_run).state
        if state and not state.is_final():
            client.set_flow_run_state(flow_run, Crashed(message="its process was killed"), force=True)


def hold_interrupts():
    """Let SIGINT be SIGTERM to this process; in the runs that Prefect will start it waits until `end_with_parent`.

    Ctrl-C reaches a run's process as well. While that still imports Prefect, it would show a page of traceback. To be called
    before there are other threads, any of which would take the signal.
    """
    resource_tracker.ensure_running()  # its start lets SIGINT through again
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which children inherit

    def hear():
        while signal.sigwait({signal.SIGINT}):
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=hear, daemon=True).start()


def end_with_parent():
    """Get SIGTERM when the parent ends, even by SIGKILL: nobody would be left to stop this run. On Linux alone.

    It is also from here on that SIGINT stops the run.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.environ.get(_PARENT, str(os.getppid())) != str(os.getppid()):  # it ended before the request took hold
        os.kill(os.getpid(), signal.SIGTERM)


def ended_with_this_process(number):
    """A function for a child to call before it becomes another program: it gets the signal `number` when this process ends."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def ask():
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, number)

    return ask
