"""A process that runs cases under limits: one JSON line in, one JSON line out. Started by `tests.soak.frame` alone.

What runs in it may write into the case's folder and the temporary folder, connect to this machine, and start no program, unless
its kind says so. Python's audit hooks see what it does; a tree of files around the folder shows what its children did.
"""

import contextlib
import hashlib
import importlib
import json
import os
import resource
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path

from gan.errors import UserError
from gan.kernels import pin_numpy

pin_numpy()  # here, since what follows imports NumPy

from tests.soak.case import AcceptedWrongly, Fault, NotChecked, RefusedWrongly  # noqa: E402

ADDRESS_SPACE_BYTES = 8 << 30  # far beyond the limit on memory: one huge allocation fails in the same way on every machine
FILE_BYTES = 1 << 30
MESSAGE_CHARACTERS = 1000  # of a line that a person can read
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# events of sys.addaudithook -> which of their arguments are paths that it changes
_CHANGES = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "shutil.rmtree": (0,),
}
_SPAWNS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn")


class Watch:
    """Notes what the running case does that it may not; `armed` while a case runs."""

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.armed = False
        self.folder = None
        self.may_spawn = False
        self.seen = []
        sys.addaudithook(self._hear)

    def _hear(self, event, arguments):
        if not self.armed:
            return
        if event == "open":
            path, mode, flags = arguments
            if (mode and set(mode) & set("wax+")) or (flags or 0) & _WRITING:
                self._changes(path)
        elif event in _CHANGES:
            for index in _CHANGES[event]:
                self._changes(arguments[index])
        elif event in _SPAWNS and not self.may_spawn:
            self.seen.append(f"started a program: {event} {str(arguments)[:200]}")
        elif event == "socket.connect" and isinstance(arguments[1], tuple) and not str(arguments[1][0]).startswith("127."):
            self.seen.append(f"connected to {arguments[1]}")

    def _changes(self, path):
        if isinstance(path, int) or path is None:
            return
        real = Path(os.path.realpath(os.fsdecode(path)))
        allowed = (self.folder, self.sandbox / "tmp", self.sandbox / "home")
        if real != Path("/dev/null") and not any(real.is_relative_to(parent) for parent in allowed):
            self.seen.append(f"wrote to {real}")


def surroundings(sandbox):
    """A digest of the names and sizes of all files around the case's folder that nothing should touch."""
    outside = sandbox / "outside"
    found = sorted((str(path), path.lstat().st_size) for path in (*outside.rglob("*"), *sandbox.iterdir()))
    return hashlib.sha256(str(found).encode()).hexdigest()


def run_case(kind, case, folder, watch):
    """(outcome, message) of one case."""
    before = surroundings(watch.sandbox)
    watch.folder, watch.may_spawn, watch.seen = folder, kind.spawns, []
    here = os.getcwd()
    watch.armed = True
    try:
        with contextlib.chdir(folder):
            kind.run(case, folder)
        outcome, message = "accepted", ""
    except UserError as error:
        outcome, message = "refused", str(error)
    except NotChecked as error:
        outcome, message = "not checked", str(error)
    except AcceptedWrongly as error:
        outcome, message = "accepted wrongly", str(error)
    except RefusedWrongly as error:
        outcome, message = "refused wrongly", str(error)
    except Fault as error:
        outcome, message = error.outcome, str(error)
    except MemoryError:
        outcome, message = "memory", traceback.format_exc()
    except BaseException:
        outcome, message = "traceback", traceback.format_exc()
    finally:
        watch.armed = False
        os.chdir(here)
    if outcome == "refused" and (not message.isprintable() or not message or len(message) > MESSAGE_CHARACTERS):
        outcome, message = "unclear", repr(message[:3000])
    if watch.seen or surroundings(watch.sandbox) != before:
        seen = "; ".join(watch.seen) or "changed the files around its folder"
        outcome, message = "outside", f"{seen}\n{outcome}: {message}"
    return outcome, message


def reset_peak():
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes():
    """The most memory that this process had since `reset_peak`, or that one of its children ever had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return 1024 * max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def _limit(number, value):
    """Set a soft limit, which a later kind may raise again."""
    hard = resource.getrlimit(number)[1]
    resource.setrlimit(number, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def main():
    campaign = importlib.import_module(sys.argv[1])
    sandbox = Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the code under test prints is no answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch = Watch(sandbox)
    warm = set()
    for line in sys.stdin:
        request = json.loads(line)
        kind = campaign.KINDS[request["kind"]]
        if request["kind"] not in warm:
            _limit(resource.RLIMIT_AS, resource.RLIM_INFINITY if kind.spawns else ADDRESS_SPACE_BYTES)
            _limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY if kind.spawns else FILE_BYTES)
            kind.warm_up()
            warm.add(request["kind"])
            print(json.dumps("warm"), file=answers, flush=True)
        reset_peak()
        start = time.monotonic()
        with warnings.catch_warnings():  # the next kind's warming up may warn: Keras does where it saves the models to start from
            warnings.simplefilter("error")  # a warning in a user's terminal says that something was not thought of
            outcome, message = run_case(kind, request["case"], Path(request["folder"]), watch)
        seconds = time.monotonic() - start
        if threading.active_count() > 40:  # servers of cases that were given up: the frame starts a fresh worker
            message += "\n(many threads)"
        answer = {"outcome": outcome, "message": message[-8000:], "seconds": seconds, "peak_bytes": peak_bytes()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
