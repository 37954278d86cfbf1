"""Fixtures that several test modules share, and the order of tests."""

import signal

import pytest

from gan.kernels import pin_numpy

pin_numpy()
from gan import runtime  # noqa: E402
from gan.errors import UserError  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; programs under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tensorflow():
    """TensorFlow, started once a test process."""
    from tests.helpers.tensorflow import start

    return start()


def pytest_collection_modifyitems(items):
    """Skip what this processor cannot compute, and begin with the tests that say how long they take.

    The latter so that no worker is left alone with a long one at the end.
    """
    try:
        runtime.require_instructions("avx512_bf16")
    except UserError as error:
        for item in items:
            if item.get_closest_marker("bfloat16"):
                item.add_marker(pytest.mark.skip(reason=str(error)))

    def seconds(item):
        slow = item.get_closest_marker("slow")
        return 0 if slow is None else slow.kwargs.get("seconds", 0)

    items.sort(key=seconds, reverse=True)
