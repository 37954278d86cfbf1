"""One run at a time in a repository: among flows by a lock, and against a person's `dvc repro` by DVC's own lock file.

The lock is the operating system's and is also held by the run's DVC process, so it lasts exactly as long as the run and its
stages, whatever kills them.
"""

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path

import psutil

from gan.errors import UserError

_POLL_SECONDS = 1
_TELL_EVERY_SECONDS = 30


class Skipped(UserError):
    """Another run is in progress and this one shall not wait; the message says which."""


def open_lock(root):
    """The file descriptor of the lock file, not locked yet; processes that inherit it hold the lock along."""
    return os.open(_folder(root) / "flow.lock", os.O_RDWR | os.O_CREAT, 0o666)


@contextlib.contextmanager
def turn(root, *, lock, policy, note, log, deadline_reached):
    """Wait for this run's turn, or raise Skipped if `policy` is "skip"; yield a dead run's note.

    root: the repository (the main working tree).
    lock: what `open_lock` gave; closed at the end.
    note: dict that describes this run; the next run gets it if this one dies before its end, else an empty dict.
    deadline_reached: () -> None, called while waiting, may raise.
    """
    note_file = _folder(root) / "flow.json"
    try:
        _wait(lambda: _other_flow(lock, note_file) or person_at_work(root), policy, log, deadline_reached)
        left_over = _read(note_file)
        note_file.write_text(json.dumps({**note, "pid": os.getpid()}), encoding="utf-8")
        try:
            yield left_over
        finally:
            note_file.unlink(missing_ok=True)
    finally:
        os.close(lock)


def person_at_work(root):
    """What a living process other than ours writes in this repository through DVC ("dvc repro (PID 12)"), or None."""
    try:
        locks = json.loads((Path(root) / ".dvc" / "tmp" / "rwlock").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):  # none, or being written
        return None
    for info in locks.get("write", {}).values():
        if _runs(info):
            return f"{Path(info['cmd'].split()[0]).name} {' '.join(info['cmd'].split()[1:])} (PID {info['pid']})"
    return None


def _folder(root):
    folder = Path(root) / ".dvc" / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _runs(info):
    """Whether the process still runs; its number alone may belong to another one by now."""
    try:
        return info["cmd"].split()[-1] in psutil.Process(info["pid"]).cmdline()
    except psutil.Error:
        return False


def _wait(blocker, policy, log, deadline_reached):
    told = None
    while (who := blocker()) is not None:
        if policy == "skip":
            raise Skipped(f"skipped: {who} is running")
        if told is None or time.monotonic() - told > _TELL_EVERY_SECONDS:
            log(f"waiting: {who} is running")
            told = time.monotonic()
        deadline_reached()
        time.sleep(_POLL_SECONDS)


def _other_flow(lock, note_file):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note = _read(note_file)
        return f"another run ({note.get('name', 'unknown')}, PID {note.get('pid', '?')})"
    return None


def _read(note_file):
    try:
        return json.loads(note_file.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
