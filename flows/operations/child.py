"""A program of Prefect's that runs as long as this process: it is asked to end once, and killed if it hangs in its end."""

import contextlib
import os
import signal
import subprocess

from flows.parent import ended_with_this_process


def run_to_end(command, environment, *, asked_by, stop_seconds):
    """Run `command` until it ends or this process gets SIGINT or SIGTERM; its exit code.

    asked_by: the signal that asks it to end, also if this process is killed. stop_seconds: what it gets for that.
    """
    child = subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=ended_with_this_process(asked_by))
    stopping = []
    kept = {number: signal.signal(number, lambda *_: stopping.append(True)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while child.poll() is None and not stopping:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.5)
        return child.returncode or 0 if child.poll() is not None else _end(child, asked_by, stop_seconds)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        _signal(child, signal.SIGKILL)
        child.wait()


def _end(child, asked_by, stop_seconds):
    _signal(child, asked_by)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(stop_seconds)
    return 0  # it was to end


def _signal(child, number):
    """Send the signal to the child and what it has started in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)
