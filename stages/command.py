"""What every stage's command line shares: help, one-line errors, signals, and never outliving the process that started it."""

import argparse
import ctypes
import inspect
import os
import select
import signal
import sys
import threading
from pathlib import Path

from gan.errors import is_users
from gan.params import PARAMS

_PR_SET_PDEATHSIG = 1
_SHELLS = ("sh", "dash", "ash", "busybox", "ksh", "mksh", "bash", "zsh", "fish")
_DVC_STAGE = "DVC_STAGE"  # in the environment of what DVC runs
_ROOT = Path(__file__).resolve().parent.parent


def code_files(stage):
    """This project's files that a stage runs, name -> path: the deps of dvc.yaml, of which a test proves that none is missing."""
    from ruamel.yaml import YAML

    deps = YAML(typ="safe").load(_ROOT / "dvc.yaml")["stages"][stage]["deps"]
    return {name: _ROOT / name for name in deps if name.endswith(".py")}


def run_as_command(main):
    """Run a stage's `main()` as a command and exit: 0 done, 1 an error that the user can mend, 130 or 143 stopped by a signal."""
    module = inspect.getmodule(main)
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{os.path.basename(module.__file__).removesuffix('.py')}",
        description=module.__doc__,
        epilog=f"Parameters are read from {PARAMS}; `dvc repro` runs the stages in order and skips what has not changed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    die_with_parent()
    received = []

    def stop(number, frame):
        received.append(number)
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        main()
    except BaseException as error:
        if received:  # whatever the exit has become on its way up: in a native module's initialiser, an ImportError
            print(f"{parser.prog}: stopped by {signal.Signals(received[0]).name}", file=sys.stderr)
            sys.exit(128 + received[0])
        if is_users(error):
            sys.exit(f"{parser.prog}: {error}")
        if lacks_memory(error):
            sys.exit(f"{parser.prog}: not enough memory ({type(error).__name__}); end other programs or use another machine")
        raise


def lacks_memory(error):
    """Whether it says that there is too little memory: Python's own, one of a library that cannot be loaded, or TensorFlow's."""
    if isinstance(error, ImportError):
        return "failed to map segment" in str(error) or "annot allocate memory" in str(error)
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"


def die_with_parent():
    """Get SIGTERM when the parent ends, so that a killed `dvc repro` leaves no stage behind. On Linux alone.

    DVC runs a stage by a shell. Bash becomes the stage; dash, most systems' /bin/sh, stays its parent and outlives DVC.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    starter = parent
    if _DVC_STAGE in os.environ and (above := _starter_of_shell(parent)):
        starter = above
        _die_with(starter)
    if os.getppid() != parent or (_DVC_STAGE in os.environ and not _shares_session(starter)):
        os.kill(os.getpid(), signal.SIGTERM)  # it ended before the request took hold, or before it was made


def _starter_of_shell(process_id):
    """Whose child a process is that is a shell and runs one command, `sh -c COMMAND`; None if it is something else."""
    import psutil

    try:
        process = psutil.Process(process_id)
        return process.ppid() if process.name() in _SHELLS and process.cmdline()[-2:-1] == ["-c"] else None
    except psutil.Error:
        return None


def _die_with(process_id):
    """Send SIGTERM to this process when another one, which is not its parent, ends."""
    try:
        process = os.pidfd_open(process_id)
    except OSError:  # it has ended, which is looked at next; or a kernel before 5.3
        return

    def wait():
        select.select([process], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    # the thread must not take a signal that the main one holds back, as while it imports TensorFlow
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    threading.Thread(target=wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _shares_session(process_id):
    """Whether a process is in the session of this one, as DVC is of its stage; who takes in an orphan is in another."""
    try:
        return os.getsid(process_id) == os.getsid(0)
    except ProcessLookupError:
        return False
