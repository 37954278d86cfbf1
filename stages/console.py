"""What a stage shows of its work, and how it hears that it shall stop."""

import contextlib
import os
import signal
import sys
import time


class Stopwatch:
    """Prints lines of the stage `name` with the seconds since it was made."""

    def __init__(self, name):
        self._name = name
        self._start = time.monotonic()

    def say(self, text):
        print(f"{self._name}: {time.monotonic() - self._start:5.1f} s  {text}", flush=True)


class ProgressBar:
    """The lecture's console line at every log step, above a bar where there is a terminal.

    Work goes on when nobody reads them any more.
    """

    def __init__(self, steps, done):
        from tqdm import tqdm

        self._last = steps - 1
        self._bar = tqdm(total=steps, initial=done, unit="step", disable=None, mininterval=0.5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._bar.close()

    def log(self, step, row):
        """Show step `step` with row (G loss, D loss, D accuracy in percent)."""
        g_loss, d_loss, accuracy = row
        line = f"step {step}/{self._last}  G loss {g_loss:.3f}  D loss {d_loss:.3f}  D accuracy {accuracy:.1f} %"
        with contextlib.suppress(OSError):
            self._bar.write(line, file=sys.stdout)
            sys.stdout.flush()
            self._bar.update(step + 1 - self._bar.n)


class StopSignals:
    """Note SIGINT and SIGTERM instead of dying at once; a second one ends the process without saving.

    signal: the number of the signal that came, or None. on_stop() is called when the first one comes.
    """

    def __init__(self, on_stop):
        self.signal = None
        self._on_stop = on_stop

    def __enter__(self):
        self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number, frame):
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number
        self._on_stop()
