"""Fixtures that several test modules share, and the order of tests."""

import signal

import pytest

from gan.kernels import pin_numpy

pin_numpy()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; programs under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tensorflow():
    """TensorFlow, started once a test process."""
    from tests.helpers.tensorflow import start

    return start()


def pytest_collection_modifyitems(items):
    """Begin with the tests that say how long they take, so that no worker is left alone with one at the end."""

    def seconds(item):
        slow = item.get_closest_marker("slow")
        return 0 if slow is None else slow.kwargs.get("seconds", 0)

    items.sort(key=seconds, reverse=True)
