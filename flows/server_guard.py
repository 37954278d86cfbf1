"""The process that owns a run's embedded server: it starts the server, waits for the flow's end, and ends the server.

The flow holds the other end of its standard input, which ends however the flow ends. It runs as a file, in a session of its own:
what is sent to the flow's process group is not for the server.
"""

import ctypes
import os
import signal
import subprocess
import sys

_END_SECONDS = 3  # for the server to end in order
_PR_SET_PDEATHSIG = 1


def main():
    """Arguments: the file descriptor of the server's socket, the folder of the package prefect."""
    descriptor, folder = sys.argv[1:]
    app = ["--app-dir", folder, "--factory", "prefect.server.api.server:create_app"]
    command = [sys.executable, "-m", "uvicorn", *app, "--fd", descriptor, "--log-level", "error", "--lifespan", "on"]
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def end_with_guard():
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(int(descriptor),), preexec_fn=end_with_guard)
    try:
        os.close(int(descriptor))  # or connections to a dead server would wait for an answer
        sys.stdin.buffer.read()
    finally:
        server.terminate()
        try:
            server.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()


if __name__ == "__main__":
    main()
