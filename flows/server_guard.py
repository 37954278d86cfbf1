"""The process that owns a run's embedded server: it starts the server, again if it dies, and ends it with the flow.

The flow holds the other end of its standard input, which ends however the flow ends. It runs as a file, in a session of its own:
what is sent to the flow's process group is not for the server.
"""

import ctypes
import os
import selectors
import signal
import subprocess
import sys

_END_SECONDS = 3  # for the server to end in order
_STARTS = 3
_PR_SET_PDEATHSIG = 1
# uvicorn's command, but for the garbage collector: the server's classes stay, and looking among them takes a fifth of the start
_UVICORN = """
import gc
gc.disable()
import prefect.server.api.server
import uvicorn
gc.freeze()
gc.enable()
uvicorn.main()
"""


def main():
    """Arguments: the file descriptor of the server's socket, the folder of the package prefect."""
    descriptor, folder = int(sys.argv[1]), sys.argv[2]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # it wakes the wait below
    for _ in range(_STARTS):  # the socket stays open in between, so that requests wait for the next server
        if _serve(descriptor, folder, ended):
            return


def _serve(descriptor, folder, ended):
    """Run the server until it dies or the flow ends; whether it was the flow."""
    app = ["--app-dir", folder, "--factory", "prefect.server.api.server:create_app"]
    command = [sys.executable, "-P", "-c", _UVICORN, *app, "--fd", str(descriptor), "--log-level", "error", "--lifespan", "on"]
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def end_with_guard():
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(descriptor,), preexec_fn=end_with_guard)
    try:
        with selectors.DefaultSelector() as selector:
            for file in (sys.stdin, ended):
                selector.register(file, selectors.EVENT_READ)
            while server.poll() is None:
                ready = [key.fileobj for key, _ in selector.select()]
                if sys.stdin in ready:
                    return True
                os.read(ended, 100)
        return False
    finally:
        server.terminate()
        try:
            server.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()


if __name__ == "__main__":
    main()
