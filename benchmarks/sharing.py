"""What sharing results costs a run: a git remote and a DVC remote over SSH, with a real sshd on this machine.

`python -m benchmarks.pipeline --share` calls it. Every byte between a clone and the storage host goes through a counter.
"""

import contextlib
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from benchmarks.storage import Storage, sshd

# another picture of the same training: a version of its own, made within seconds
CHANGE = "gallery.frame_milliseconds=110"


def why_not():
    """Why it cannot be measured on this machine, in one line; None where it can."""
    return None if sshd() else "sshd is not installed (Debian: openssh-server)"


@dataclass(frozen=True)
class Cost:
    """What runs of one kind took, each a number a run."""

    name: str
    seconds: list[float]
    sent_bytes: list[int]
    received_bytes: list[int]


class Counter:
    """A port of this machine that leads to `port`, and the bytes that went through it."""

    def __init__(self, port):
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.sent = self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client):
        with client, socket.create_connection(("127.0.0.1", self._to)) as server:
            for side in (client, server):  # else small packets would wait for each other, as they do not without a counter
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=self._forward, args=(server, client, "received"), daemon=True)
            back.start()
            self._forward(client, server, "sent")
            back.join()

    def _forward(self, source, target, name):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                setattr(self, name, getattr(self, name) + len(data))  # one thread a direction, runs come one by one
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self):
        self._listener.close()


def measure(tree, folder, environment, repeats):
    """Costs of an isolated run with nothing to do, alone and shared, of the first push, and of a restore in an empty clone.

    tree: a repository whose pipeline is up to date and committed. environment: of the commands, with a Prefect server.
    repeats: runs with nothing to do that count.
    """
    alone = {**environment, "PREFECT_HOME": str(folder / "client")}
    first = _cost("first version, no remotes", tree, alone, None, 1)
    quiet = _cost("nothing to do, no remotes", tree, alone, None, repeats)
    with _storage(folder / "storage") as (storage, counter):
        shared = {**alone, **storage.let_in(folder / "home")}
        _share(tree, storage, shared)
        push = _cost("nothing to do, first push", tree, shared, counter, 1)
        quiet_shared = _cost("nothing to do, shared", tree, shared, counter, repeats)
        clone = folder / "clone"
        _call(["git", "clone", "--quiet", storage.url("git"), str(clone)], folder, shared)
        restore = _cost("all restored, empty clone", clone, shared, counter, 1, expected="Restored")
    return [first, quiet, push, quiet_shared, restore]


def table(costs):
    """Markdown: a row a kind of run."""
    lines = ["| isolated run | seconds, median | lowest-highest | sent | received |", "| --- | --- | --- | --- | --- |"]
    for cost in costs:
        moved = (f"{statistics.median(count) / 1e6:.3f} MB" for count in (cost.sent_bytes, cost.received_bytes))
        span = f"{min(cost.seconds):.1f}-{max(cost.seconds):.1f} s"
        lines.append(f"| {cost.name} | {statistics.median(cost.seconds):.1f} s | {span} | {' | '.join(moved)} |")
    return "\n".join(lines)


def _cost(name, tree, environment, counter, repeats, expected=None):
    command = [sys.executable, "-m", "commands", "flow", "--isolated", "--set", CHANGE]
    seconds, sent, received = [], [], []
    for _ in range(repeats):
        before = (counter.sent, counter.received) if counter else (0, 0)
        began = time.monotonic()
        output = _call(command, tree, environment)
        seconds.append(time.monotonic() - began)
        after = (counter.sent, counter.received) if counter else (0, 0)
        sent.append(after[0] - before[0])
        received.append(after[1] - before[1])
        if expected and ("Ran" in output or expected not in output):
            sys.exit(f"{name}: expected {expected}\n{output[-2000:]}")
    return Cost(name, seconds, sent, received)


@contextlib.contextmanager
def _storage(folder):
    """Yield the Storage, which sshd serves in the block, and the Counter before it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    counter = Counter(port)
    storage = Storage(folder, "127.0.0.1", counter.port).create()
    server = subprocess.Popen(
        storage.command("-o", "ListenAddress=127.0.0.1", "-p", str(port)), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield storage, counter
    finally:
        server.terminate()
        server.wait()
        counter.close()


def _share(tree, storage, environment):
    for command in (
        ["git", "remote", "add", "origin", storage.url("git")],
        ["dvc", "remote", "add", "--quiet", "--default", "storage", storage.url("dvc")],
        ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "--quiet", "--all", "-m", "Share"],
        ["git", "push", "--quiet", "--set-upstream", "origin", "HEAD:main"],
    ):
        _call(command, tree, environment)


def _call(command, folder, environment):
    """Run a command; its output. Ends this program where it fails."""
    program = shutil.which(command[0], path=environment["PATH"])
    done = subprocess.run([program, *command[1:]], cwd=folder, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}\n{' '.join(command)} failed; its output stands above")
    return done.stdout
