"""One run at a time in a repository: among flows by a lock, and against a person's `dvc repro` by DVC's own lock file.

The lock is the operating system's and is also held by the run's DVC process, so it lasts exactly as long as the run and its
stages, even when they are killed.
"""

import contextlib
import fcntl
import itertools
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from flows.dvc.session import Busy
from flows.parent import tell_of_kill
from gan.errors import UserError
from gan.files import write_json

_POLL_SECONDS = 1
_TELL_EVERY_SECONDS = 30
_BUSY_RETRY_SECONDS = 2
# the locks of the references that runs and studies write
_REFERENCE_LOCKS = ("pipeline/**/*.lock", "gan/**/*.lock", "exps/**/*.lock", "tags/run/*.lock", "tags/*@v*.lock")
_GIT_SECONDS = 5  # a reference's lock that is older belongs to a git that was killed: git holds it for milliseconds


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
        """Run the block alone in the repository; yields the RunNote of a run that was killed, of which Prefect is told, or None.

        policy: "wait" for another run to end, or "skip": raise Skipped.
        log: gets a line now and then while waiting.
        deadline: ends the waiting with TimeUp.
        The lock is closed at the end.
        """
        try:
            self._wait(policy, log, deadline)
            forget_ended_processes(self._repository)
            forget_killed_git(self._repository)
            killed = RunNote.read(self._note_file)
            if killed is not None and killed.flow_run is not None:
                tell_of_kill(killed.flow_run)
            note = RunNote(name, flow_run, os.getpid())
            self._note_file.write_text(json.dumps(asdict(note)), encoding="utf-8")
            try:
                yield killed
            finally:
                self._note_file.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)

    def _wait(self, policy, log, deadline):
        told = person = None
        while True:
            who = self._other_flow()
            if who is None:
                # between two stages of theirs DVC's file names nobody, so the process counts until it ends
                if person is None or not _lives(person.process):
                    person = person_at_work(self._repository)
                if person is None:
                    return
                who = person.name
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


@dataclass(frozen=True)
class Person:
    """Somebody's DVC process that writes in the repository."""

    process: psutil.Process
    name: str  # such as "dvc repro (PID 12)"


def person_at_work(repository):
    """The Person who has DVC write in this repository now, by DVC's own file of locks; None where nobody has."""
    try:
        locks = json.loads((repository.root / ".dvc" / "tmp" / "rwlock").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):  # none, or being written
        return None
    for info in locks.get("write", {}).values():
        program, *arguments = info["cmd"].split()
        if process := _process_of(info):
            return Person(process, f"{Path(program).name} {' '.join(arguments)} (PID {info['pid']})")
    return None


def forget_ended_processes(repository):
    """Take out of DVC's own file of locks what names no DVC process that lives.

    DVC writes the file in place, and a killed DVC leaves its entries. It takes any process of that number for the one that it
    waits for, as after a restart of the machine, and no DVC starts on half a file.
    """
    folder = repository.root / ".dvc" / "tmp"
    file = folder / "rwlock"
    with (
        contextlib.suppress(FileNotFoundError),
        open(file, encoding="utf-8") as current,
        open(folder / "rwlock.lock", "a") as guard,
    ):
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as DVC does while it edits the file
        except BlockingIOError:
            return
        try:
            locks = json.load(current)
            write = {path: info for path, info in locks.get("write", {}).items() if _process_of(info)}
            read = {path: [info for info in infos if _process_of(info)] for path, infos in locks.get("read", {}).items()}
        except (ValueError, TypeError, AttributeError, KeyError):
            file.unlink()
            return
        left = {"write": write, "read": {path: infos for path, infos in read.items() if infos}}
        if left != locks:
            write_json(file, left)


def forget_killed_git(repository):
    """Remove what a killed git has left locked of the references that runs write: git itself would refuse them for ever."""
    references = repository.root / repository.git("rev-parse", "--git-common-dir") / "refs"
    for file in itertools.chain.from_iterable(references.glob(pattern) for pattern in _REFERENCE_LOCKS):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > _GIT_SECONDS:
                file.unlink()


def _process_of(info):
    """The living process of an entry in DVC's file of locks, or None; its number may belong to another process by now."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(info["pid"])
        if set(info["cmd"].split()[-1:]) <= set(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def when_free(action, *, policy, deadline):
    """What `action()` returns; as long as it raises Busy, wait for the other one, or raise Skipped if `policy` is "skip"."""
    while True:
        try:
            return action()
        except Busy as busy:
            if policy == "skip":
                raise Skipped(f"skipped: {busy}") from None
            deadline.require()
            time.sleep(_BUSY_RETRY_SECONDS)


def _lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
