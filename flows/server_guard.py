"""Prefect's embedded server ends with its flow, even with a flow that was killed.

Prefect starts that server as a child of the flow, at a moment of its own, and ends it only where the flow ends in order. So a
process of ours, this file, waits for the flow's end. It then finds the server by a mark in its environment, which the flow has
set in its own.
"""

import atexit
import contextlib
import os
import subprocess
import sys
import time
import uuid

import psutil

_MARK = "PIPELINE_SERVER_MARK"
_EMBEDDED = "PREFECT__SERVER_EPHEMERAL"  # Prefect gives it to its embedded server alone
_LOOK_SECONDS = 1  # a server that was just being started may not show its environment yet
_END_SECONDS = 3  # for a server to end in order


def guard_embedded_server():
    """From now on a server that Prefect embeds into this process ends at the latest when this process does."""
    os.environ[_MARK] = uuid.uuid4().hex
    guard = subprocess.Popen(
        [sys.executable, "-P", __file__, os.environ[_MARK]],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the flow
    )
    # registered before Prefect registers the end of its server, so it is called after that
    atexit.register(guard.communicate, b"goodbye")


def main():
    """Wait until standard input ends; if there was no goodbye, end the server with the mark in the first argument."""
    if sys.stdin.buffer.read():
        return
    end = time.monotonic() + _LOOK_SECONDS
    while not (found := _servers(sys.argv[1])) and time.monotonic() < end:
        time.sleep(0.1)
    for server in found:
        with contextlib.suppress(psutil.Error):
            server.terminate()
    _, alive = psutil.wait_procs(found, timeout=_END_SECONDS)
    for server in alive:
        with contextlib.suppress(psutil.Error):
            server.kill()


def _servers(mark):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            if environment.get(_MARK) == mark and _EMBEDDED in environment:
                found.append(process)
    return found


if __name__ == "__main__":
    main()
