"""Prefect's server for a run that is given none: it ends with the run, even with one that is killed, and never before it.

Prefect would start the same server as a child in the flow's process group. There Ctrl-C ends the server first, and the flow tries
for a minute to tell it of its end; and a flow that is killed leaves the server behind.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from gan.errors import UserError

_GUARD = Path(__file__).with_name("server_guard.py")
_START_SECONDS = 120  # of a busy machine
_RESTORE_SECONDS = 30  # at most, for a run to have its former results back, once its processes have ended
_MARKS = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}  # as Prefect's own has them


def start_embedded_server(grace_seconds, run_over):
    """Run a Prefect server, with this process's settings, until this process ends; the address of its API.

    Should the server be lost for good, the run gets SIGTERM, and this process ends once the Event `run_over` is set.
    grace_seconds: what a stage gets to end in order.
    Raises UserError where it does not start.
    """
    import prefect
    from prefect.settings import PREFECT_HOME, get_current_settings

    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        guard = subprocess.Popen(
            [sys.executable, "-P", str(_GUARD), str(listener.fileno()), str(prefect.__module_path__.parent)],
            env={**os.environ, **settings, **_MARKS},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(listener.fileno(),),
        )
    _past_proxies("127.0.0.1")
    # registered before Prefect registers its last messages to the server, so it is called after them
    atexit.register(_end, guard)
    threading.Thread(target=_end_without, args=(guard, grace_seconds, run_over), daemon=True).start()
    try:  # the socket takes requests from the beginning, and closes if the server ends
        httpx.get(f"{url}/health", timeout=_START_SECONDS, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        home = PREFECT_HOME.value()
        if not os.access(home, os.W_OK):  # as in a container whose user has no home
            raise UserError(f"Prefect's folder {home} cannot be written; set PREFECT_HOME to one that can") from None
        raise UserError(f"Prefect's embedded server did not start ({error}); `prefect server start` shows why") from None
    return url


def _past_proxies(host):
    """Let Prefect's clients in this process, and in the stages' if they ever ask, reach `host` without the shell's proxy."""
    known = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))  # of the two, the first is the one that counts
    if known != "*":
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, (known, host)))


def _end(guard):
    """End the server, now that nobody needs it."""
    guard.stdin.close()
    guard.wait()


def _end_without(guard, grace_seconds, run_over):
    """End this process where the server ends before it: Prefect would try for minutes to send each of its last messages."""
    guard.wait()
    if guard.stdin.closed:
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # else nobody listens yet, and it would be an end without a word
        os.kill(os.getpid(), signal.SIGTERM)  # the stage saves what it has
        run_over.wait(2 * grace_seconds + _RESTORE_SECONDS)  # the stage has so long twice, for its save and for its processes
    print("gan: Prefect's embedded server was killed; what the stages made is kept, run again", file=sys.stderr, flush=True)
    os._exit(1)
