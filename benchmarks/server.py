"""A Prefect server of one's own, for the benchmarks and the tests that need a real one."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

START_SECONDS = 120


@contextlib.contextmanager
def prefect_server(home, port=None, **variables):
    """A Prefect server with its database and its log in the folder `home`; yields (API address, process).

    port: by default a free one. variables: its further environment. Raises TimeoutError if it does not answer in time. It and all
    its processes end with the block.
    """
    for tries_left in (0,) if port else (2, 1, 0):  # a free port may be somebody's by the time that the server asks for it
        chosen = port or free_port()
        url = f"http://127.0.0.1:{chosen}/api"
        server = _start(home, chosen, url, variables)
        try:
            if not _comes_up(server, url):
                if server.poll() is not None and tries_left:
                    continue
                log = Path(home) / "server.log"
                raise TimeoutError(f"the Prefect server did not start; the end of {log}:\n{log.read_text()[-2000:]}")
            yield url, server
            return
        finally:
            _signal_group(server, signal.SIGINT)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                _signal_group(server, signal.SIGKILL)
                server.wait()


def _start(home, port, url, variables):
    with open(Path(home) / "server.log", "w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
            # its page asks port 4200 if nobody says otherwise
            env={
                **prefect_environment(home),
                "PREFECT_SERVER_UI_API_URL": url,
                "PREFECT_UI_URL": url.removesuffix("/api"),
                **variables,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _comes_up(server, url):
    """Whether it answers in time, and before it ends."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        if _answers(f"{url}/health"):
            return True
        time.sleep(0.2)
    return False


def prefect_environment(home):
    """This process's environment with a Prefect home of its own and no server."""
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    environment.pop("PREFECT_API_URL", None)
    return environment


def free_port():
    """The number of a port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def _signal_group(process, number):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
