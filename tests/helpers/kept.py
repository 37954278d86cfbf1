"""What is dear to make and the same for all tests: made once, for all test processes and for the next ones."""

import fcntl
import os
import tempfile
from pathlib import Path

_KEPT = Path(__file__).resolve().parents[2] / ".scratch" / "tests"


def kept(name, make):
    """The path of the file or folder `name`; nobody may write to it. The name says all that it depends on.

    Where there is none, `make(folder)` makes it in an empty folder and returns its path there.
    """
    path = _KEPT / name
    if not path.exists():
        _KEPT.mkdir(parents=True, exist_ok=True)
        with open(_KEPT / f"{name}.lock", "w") as lock:  # of several test processes, one makes it
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                with tempfile.TemporaryDirectory(dir=_KEPT) as folder:
                    os.replace(make(Path(folder)), path)
    return path
