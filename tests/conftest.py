"""Fixtures that several test modules share, and the order of tests."""

import signal

import pytest

from gan.runtime import pin_numpy

pin_numpy()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; programs under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tensorflow():
    """TensorFlow, started once a test process as the stages start it."""
    from gan import runtime

    # all that the processor has, since only AVX-512 has products in bfloat16. Stages that run in this process ask for AVX2 and are
    # told that it is so: what kernels change is tested in processes of their own (tests/ground/test_runtime.py)
    started = runtime.start_tensorflow(2, instructions=runtime.NATIVE)
    runtime._started = ("avx2", runtime.CPU)
    return started


def pytest_collection_modifyitems(items):
    """Begin with the tests that say how long they take, so that no worker is left alone with one at the end."""

    def seconds(item):
        slow = item.get_closest_marker("slow")
        return 0 if slow is None else slow.kwargs.get("seconds", 0)

    items.sort(key=seconds, reverse=True)
