"""Work that a signal must not cut in two."""

import contextlib
import signal
import threading


@contextlib.contextmanager
def signals_held():
    """Ignore SIGINT and SIGTERM in the block: it is short, and its work must be finished."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def signals_delayed():
    """Let SIGINT and SIGTERM wait for the end of the block; then the first one that came does what it would have done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = []
    kept = {number: signal.signal(number, lambda number, _: came.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
