"""The flow's side of the DVC process: requests, the output line by line, time limits, and an end that leaves nothing behind."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from flows.dvc.damage import DAMAGED_LOCK, says_damaged_lock
from flows.dvc.description import Description
from flows.git import untied_environment
from flows.signals import signals_held
from gan.errors import UserError

_MESSAGE_CHARACTERS = 500
_CHILD = Path(__file__).with_name("process.py")


class Busy(Exception):
    """Another DVC process works on the same files; the message is DVC's."""


class DvcSession:
    """A DVC process in the folder `root`, in a session of its own; use it in a `with` block, whose end ends all its processes."""

    def __init__(self, root, *, grace_seconds, environment=None, held_files=(), early=False):
        """Start the process.

        held_files: open file descriptors that it keeps open as long as it lives (locks).
        early: the first request is some time off, so the process uses that time to get ready.
        """
        answers, answers_child = os.pipe()
        self._grace_seconds = grace_seconds
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-u", str(_CHILD), str(answers_child), str(grace_seconds), *(["early"] if early else [])],
            cwd=root,
            env={**project_environment(), "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(answers_child, *held_files),
        )
        os.close(answers_child)
        self._answers = os.fdopen(answers, "rb")
        self._output = _Lines()
        self._answer = _Lines()
        self._pending = False  # a request that has no answer yet
        self._stopped = False
        self._selector = selectors.DefaultSelector()
        for file in (self._process.stdout, self._answers):
            os.set_blocking(file.fileno(), False)
            self._selector.register(file, selectors.EVENT_READ)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()

    def describe(self):
        """Ask DVC for the stages and their state; raises Busy."""
        answer, _ = self._ask({"describe": True})
        _require_success(answer)
        return Description.of_answer(answer)

    def share(self, repository):
        """Use the cache and the remotes of `repository`."""
        _require_success(self._ask({"share": str(repository.root)})[0])

    def remember(self, commits, note_file):
        """Let DVC know what the versions at `commits`, oldest first, were made of, so that they are restored and not made again.

        note_file: a file of the repository's own in which it is noted which ones are known; returns how many were not.
        """
        answer, _ = self._ask({"remember": {"commits": list(commits), "note_file": str(note_file)}})
        _require_success(answer)
        return answer["news"]

    def push(self, stages=(), *, deadline=None):
        """Send what the lock names to the remote, and see that it is there in full. Raises UserError, and TimeUp.

        stages: names; what the lock names of these alone, or of all where there is none.
        """
        answer, lines = self._ask({"push": list(stages)}, None, deadline)
        if "error" in answer:
            raise UserError(f"dvc push: {_one_line(answer['error'])}")
        if answer["code"] != 0:
            raise UserError(f"dvc push: {' '.join(line for line in lines if line.startswith('ERROR'))[:_MESSAGE_CHARACTERS]}")

    def try_remote(self, deadline=None):
        """Write a file to the remote and take it away again; the remote's address, or None. Raises UserError, and TimeUp."""
        answer, _ = self._ask({"try_remote": True}, None, deadline)
        _require_success(answer)
        return answer["url"]

    def in_run_cache(self, stage):
        """Whether the changed stage of this name was run before with what it depends on now, so that DVC would restore it."""
        answer, _ = self._ask({"in_run_cache": stage})
        _require_success(answer)
        return answer["found"]

    def unused(self, commits):
        """What `dvc gc` would remove if there were the `commits` alone, the experiments and the working tree.

        A dict: the number of files, their bytes, and of how many runs of stages it would take outputs away. Raises Busy.
        """
        answer, _ = self._ask({"unused": list(commits)})
        _require_success(answer)
        return answer

    def dvc(self, *arguments, on_line=None, deadline=None):
        """Run `dvc` with `arguments`: (exit code, lines). `on_line` gets each line as it comes; TimeUp after the Deadline."""
        answer, lines = self._ask({"dvc": list(arguments)}, on_line, deadline)
        if "error" in answer:
            raise UserError(f"dvc {' '.join(arguments)}: {_one_line(answer['error'])}")
        return answer["code"], lines

    def stop(self, on_line=None):
        """End the process: at once when idle, else SIGINT to its whole group, the grace period, SIGKILL."""
        if self._stopped:
            return
        with signals_held():
            family = _family(self._process.pid)
            if self._pending:
                _signal_group(self._process.pid, signal.SIGINT)
                self._pump_until(lambda: not self._pending, time.monotonic() + self._grace_seconds, on_line)
            if not self._pending:
                with contextlib.suppress(BrokenPipeError, ValueError):
                    self._process.stdin.write(b'"goodbye"\n')
                    self._process.stdin.close()
                self._pump_until(lambda: not _alive(family), time.monotonic() + self._grace_seconds, on_line)
            _signal_group(self._process.pid, signal.SIGKILL)
            for process in _alive(family):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait()
            for file in (self._process.stdin, self._process.stdout, self._answers):
                with contextlib.suppress(BrokenPipeError):
                    file.close()
            self._selector.close()
            self._stopped = True

    def _ask(self, request, on_line=None, deadline=None):
        lines = []

        def hear(line):
            lines.append(line)
            if on_line:
                on_line(line)

        try:
            self._pending = True
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._pending = False
        answers = []
        while self._pending:
            if deadline is not None:
                deadline.require()
            answers += self._pump(hear)
        self._drain(hear)
        if not answers:
            return {"error": f"the DVC process ended unexpectedly: {' '.join(lines[-3:]) or 'it said nothing; run again'}"}, lines
        return json.loads(answers[0]), lines

    def _pump(self, on_line):
        """Wait at most half a second for output; hand lines to `on_line` and return complete answers."""
        answers = []
        for key, _ in self._selector.select(timeout=0.5):
            data = key.fileobj.read()
            if data is None:
                continue
            if data == b"":
                self._selector.unregister(key.fileobj)
            if key.fileobj is self._answers:
                answers += self._answer.feed(data)
                self._pending = self._pending and not answers and data != b""
            else:
                for line in self._output.feed(data):
                    on_line(line)
        return answers

    def _pump_until(self, condition, deadline, on_line):
        while not condition() and time.monotonic() < deadline:
            if self._selector.get_map():
                self._pump(on_line or (lambda line: None))
            else:
                time.sleep(0.05)
            self._process.poll()

    def _drain(self, on_line):
        """Everything was written before the answer was, so what is there now is all."""
        with contextlib.suppress(KeyError):
            self._selector.get_key(self._process.stdout)
            while data := self._process.stdout.read():
                for line in self._output.feed(data):
                    on_line(line)
        for line in self._output.flush():
            on_line(line)


class _Lines:
    """Bytes in, whole lines of text out; a carriage return ends a line too, as progress bars use it."""

    def __init__(self):
        self._rest = b""

    def feed(self, data):
        *lines, self._rest = (self._rest + data).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def flush(self):
        rest, self._rest = self._rest, b""
        return [rest.decode(errors="replace")] if rest else []


def project_environment():
    """This process's environment, in which `python -m stages.…` is this Python with the code of the folder it is called in."""
    environment = untied_environment()
    environment.pop("PYTHONSAFEPATH", None)  # it would be the installed code
    return {**environment, "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")}


def says_busy(text):
    """Whether DVC's words `text` mean that another DVC process works on the same files."""
    return "is busy, it is being blocked by" in text or "Unable to acquire lock" in text


def _require_success(answer):
    if "error" not in answer:
        return
    if says_busy(answer["error"]):
        raise Busy(_one_line(answer["error"]))
    if says_damaged_lock(answer["error"]):
        raise UserError(DAMAGED_LOCK)
    raise UserError(f"DVC: {_one_line(answer['error'])}")


def _one_line(text):
    return " ".join(text.split())


def _family(pid):
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _alive(family):
    return [process for process in family if process.is_running() and _status(process) != psutil.STATUS_ZOMBIE]


def _status(process):
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_ZOMBIE


def _signal_group(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
