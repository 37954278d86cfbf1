"""One run at a time in a repository: among flows by a lock, and against a person's `dvc repro` by DVC's own lock file.

The lock is the operating system's and is also held by the run's DVC process, so it lasts exactly as long as the run and its
stages, even when they are killed.
"""

import contextlib
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from gan.errors import UserError

_POLL_SECONDS = 1
_TELL_EVERY_SECONDS = 30


class Skipped(UserError):
    """Another run is in progress and this one shall not wait; the message says which."""


@dataclass(frozen=True)
class RunNote:
    """What a run under way says of itself. The next run finds it if this one was killed before its end."""

    name: str
    flow_run: str | None = None  # its id in Prefect
    pid: int = 0

    @classmethod
    def read(cls, file):
        """The note in `file`, or None where there is none or only half of one."""
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None


class RunLock:
    """The lock of a repository, open and not taken yet; processes that inherit its file descriptor hold it along."""

    def __init__(self, repository):
        folder = repository.root / ".dvc" / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        self._repository = repository
        self._note_file = folder / "flow.json"
        self._descriptor = os.open(folder / "flow.lock", os.O_RDWR | os.O_CREAT, 0o666)

    def fileno(self):
        """The file descriptor."""
        return self._descriptor

    @contextlib.contextmanager
    def exclusive_run(self, name, *, flow_run=None, policy, log, deadline=None):
        """Run the block alone in the repository; yields the RunNote of a run that was killed, or None.

        policy: "wait" for another run to end, or "skip": raise Skipped.
        log: gets a line now and then while waiting.
        deadline: ends the waiting with TimeUp.
        The lock is closed at the end.
        """
        try:
            self._wait(policy, log, deadline)
            killed = RunNote.read(self._note_file)
            note = RunNote(name, flow_run, os.getpid())
            self._note_file.write_text(json.dumps(asdict(note)), encoding="utf-8")
            try:
                yield killed
            finally:
                self._note_file.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)

    def _wait(self, policy, log, deadline):
        told = None
        while (who := self._other_flow() or person_at_work(self._repository)) is not None:
            if policy == "skip":
                raise Skipped(f"skipped: {who} is running")
            if told is None or time.monotonic() - told > _TELL_EVERY_SECONDS:
                log(f"waiting: {who} is running")
                told = time.monotonic()
            if deadline is not None:
                deadline.require()
            time.sleep(_POLL_SECONDS)

    def _other_flow(self):
        """Take the lock, or say who has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note = RunNote.read(self._note_file)
            return f"another run ({note.name}, PID {note.pid})" if note else "another run"
        return None


def person_at_work(repository):
    """What a living process other than ours writes in this repository through DVC ("dvc repro (PID 12)"), or None."""
    try:
        locks = json.loads((repository.root / ".dvc" / "tmp" / "rwlock").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):  # none, or being written
        return None
    for info in locks.get("write", {}).values():
        if _runs(info):
            return f"{Path(info['cmd'].split()[0]).name} {' '.join(info['cmd'].split()[1:])} (PID {info['pid']})"
    return None


def _runs(info):
    """Whether the process still runs; its number alone may belong to another one by now."""
    try:
        return info["cmd"].split()[-1] in psutil.Process(info["pid"]).cmdline()
    except psutil.Error:
        return False
