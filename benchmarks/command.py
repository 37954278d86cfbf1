"""What the benchmarks' command lines share: errors in one line, an end by Ctrl-C or SIGTERM, and children that end with it."""

import contextlib
import os
import signal
import subprocess
import sys

from flows.signals import signals_delayed
from gan.errors import UserError

_END_SECONDS = 10  # for a child to end by itself


def run_as_command(main):
    """Run `main()`: a UserError ends it in one line with code 1, Ctrl-C and SIGTERM with 130 after its `finally` blocks."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except UserError as error:
        sys.exit(f"{os.path.relpath(sys.argv[0])}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def leave_out_users_dvc(folder):
    """From here on DVC, also in child processes, reads no settings of the user or the machine, such as a cache of theirs."""
    for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        (folder / name).mkdir()
        os.environ[name] = str(folder / name)


@contextlib.contextmanager
def refused_by(parser):
    """A UserError in the block ends the program as any wrong argument does: one line and code 2."""
    try:
        yield
    except UserError as error:
        parser.error(str(error))


@contextlib.contextmanager
def child(command, **options):
    """The process of `command` (Popen's `options`) in a session of its own; it and all its children end with the block."""
    process = None
    try:
        with signals_delayed():  # else one that comes while it starts would leave it
            process = subprocess.Popen(command, start_new_session=True, **options)
        yield process
    finally:
        if process:
            end_group(process)
            if process.stdout:
                process.stdout.close()


def end_group(process):
    """End `process`, which leads a group, and all others in it."""
    _signal(process, signal.SIGTERM)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process, number):
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group that has ended
        os.killpg(process.pid, number)
