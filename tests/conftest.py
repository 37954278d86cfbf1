"""Fixtures that several test modules share, and the order of tests."""

import signal
from collections import Counter

import pytest

from gan.kernels import pin_numpy

pin_numpy()
from gan import runtime  # noqa: E402
from gan.errors import UserError  # noqa: E402

_SLOW_SECONDS = 5  # of a slow test that does not say how long it takes

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; programs under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tensorflow():
    """TensorFlow, started once a test process."""
    from tests.helpers.tensorflow import start

    return start()


def pytest_collection_modifyitems(items):
    """Skip what this processor cannot compute, and begin with what takes longest, so that no process ends long after the others.

    Tests of one `xdist_group` share something that is dear to make: they run in one process, one after the other.
    """
    try:
        runtime.require_instructions("avx512_bf16")
    except UserError as error:
        for item in items:
            if item.get_closest_marker("bfloat16"):
                item.add_marker(pytest.mark.skip(reason=str(error)))

    seconds = Counter()
    for item in items:
        if slow := item.get_closest_marker("slow"):
            seconds[_unit(item)] += slow.kwargs.get("seconds", _SLOW_SECONDS)
    items.sort(key=lambda item: seconds[_unit(item)], reverse=True)


def _unit(item):
    """What goes to one process as a whole."""
    group = item.get_closest_marker("xdist_group")
    return item.nodeid if group is None else group.args[0]
