"""A user without an entry in the system's list of users, as in many a container."""

import subprocess

import pytest

_NAMELESS = ("unshare", "--user", "--map-user=4321", "--map-group=4321")  # a namespace whose files are still this user's


def nameless():
    """What stands before a command for it to run as user 4321; skips the test where the system makes no user namespaces."""
    if subprocess.run([*_NAMELESS, "true"], capture_output=True).returncode != 0:
        pytest.skip("this system makes no user namespaces")
    return _NAMELESS
