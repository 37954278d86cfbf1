"""Fixtures that several test modules share."""

import pytest


@pytest.fixture(scope="session")
def tensorflow():
    """TensorFlow, started once a test process as the stages start it."""
    from gan.runtime import start_tensorflow

    return start_tensorflow(2)
