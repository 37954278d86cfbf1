"""The time that a run may take."""

import time


class TimeUp(Exception):
    """The run has used up its time."""


class Deadline:
    """The moment that is `seconds` from now."""

    def __init__(self, seconds):
        self._end = time.monotonic() + seconds

    def require(self):
        """Raise TimeUp if the moment has passed."""
        if time.monotonic() > self._end:
            raise TimeUp("flow.timeout_seconds are over")
