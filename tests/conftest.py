"""Fixtures that several test modules share, and the order of tests."""

import compileall
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from gan.kernels import pin_numpy

pin_numpy()
from gan import runtime  # noqa: E402
from gan.errors import UserError  # noqa: E402

_QUICK_SECONDS, _SLOW_SECONDS = 0.1, 5  # of a test that does not say how long it takes
_ROOT = Path(__file__).resolve().parents[1]
_PROGRAMS, _SETTINGS = pytest.StashKey[str](), pytest.StashKey[str]()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; programs under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    """Let nobody's settings of git, DVC or make, such as signed commits or a shared cache, reach what is tested.

    And have bytecode of this project, and a folder for programs of XLA's, since programs under test start by the hundred.

    Each would compile all that it imports and computes. Copies of the project in temporary folders take the bytecode along.
    """
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHON", "ARGS"):  # `make PYTHON=… test` would settle them for every make
        os.environ.pop(name, None)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # also for what the first process to import a module leaves to the others
    if not hasattr(config, "workerinput"):  # the process that starts the others
        config.stash[_SETTINGS] = tempfile.mkdtemp(prefix="gan-settings-")
        os.environ |= {"GIT_CONFIG_GLOBAL": str(_ROOT / "tests/helpers/gitconfig"), "GIT_CONFIG_NOSYSTEM": "1"}
        os.environ |= dict.fromkeys(("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"), config.stash[_SETTINGS])
        os.environ["GAN_PROGRAMS"] = config.stash[_PROGRAMS] = tempfile.mkdtemp(prefix="gan-programs-")
        for package in ("commands", "flows", "gan", "stages"):
            compileall.compile_dir(_ROOT / package, quiet=2)


def pytest_unconfigure(config):
    for folder in (_PROGRAMS, _SETTINGS):
        if folder in config.stash:
            shutil.rmtree(config.stash[folder], ignore_errors=True)


@pytest.fixture(scope="session")
def tensorflow():
    """TensorFlow, started once a test process."""
    from tests.helpers.tensorflow import start

    return start()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """A file that needs a Prefect server leaves none to one that does without, from which it would take time."""
    last = nextitem is None or nextitem.path != item.path and not hasattr(nextitem.module, "server_url")
    if last and (project := sys.modules.get("tests.helpers.toy_project")):
        project.stop_server()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Skip what this processor cannot compute, and begin with the files that take longest.

    So no process is left with a long one when the others have ended. Tests of a file share what is dear to make.
    """
    try:
        runtime.require_instructions("avx512_bf16")
    except UserError as error:
        for item in items:
            if item.get_closest_marker("bfloat16"):
                item.add_marker(pytest.mark.skip(reason=str(error)))

    seconds = Counter()
    for item in items:
        slow = item.get_closest_marker("slow")
        seconds[item.path] += _QUICK_SECONDS if slow is None else slow.kwargs.get("seconds", _SLOW_SECONDS)
    items.sort(key=lambda item: seconds[item.path], reverse=True)
