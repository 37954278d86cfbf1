"""Fixtures that several test modules share, and the order of tests."""

import signal
import sys
from collections import Counter

import pytest

from gan.kernels import pin_numpy

pin_numpy()
from gan import runtime  # noqa: E402
from gan.errors import UserError  # noqa: E402

_QUICK_SECONDS, _SLOW_SECONDS = 0.1, 5  # of a test that does not say how long it takes

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; programs under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tensorflow():
    """TensorFlow, started once a test process."""
    from tests.helpers.tensorflow import start

    return start()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """A file that needs a Prefect server leaves none behind: beside files that do without, it would take time from them."""
    if (nextitem is None or nextitem.path != item.path) and (project := sys.modules.get("tests.helpers.toy_project")):
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
