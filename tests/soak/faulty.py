"""A campaign in which everything goes wrong that can, for the tests of the frame."""

import os
import pickle
import signal
import socket
import subprocess
import time
import warnings

from hypothesis import strategies as st

from gan.errors import UserError
from tests.soak.case import AcceptedWrongly, Kind, NotChecked, RefusedWrongly
from tests.soak.kinds.arrays import Payload


class Careless(UserError):
    """An error that shows what it quotes as it is."""

    def __str__(self):
        return self.args[0]


def raising(error):
    """A case that ends in `error`."""

    def run(case, folder):
        raise error

    return run


def crash(case, folder):
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(case, folder):
    time.sleep(60)


def eat(case, folder):
    bytes(bytearray(b"x") * 300_000_000)


def write(case, folder):
    (folder / "../outside/file").write_text("x")


def unpickle(case, folder):
    pickle.loads(pickle.dumps(Payload()))


def start(case, folder):
    subprocess.run(["true"], check=True)


def connect(case, folder):
    with socket.socket() as client:
        client.settimeout(0.1)
        client.connect(("192.0.2.1", 9))  # an address that documents are free to use, and nobody else


def divide(case, folder):
    (folder / "number.txt").write_text(str(case))
    if case >= 1000:
        1 // 0  # noqa: B018


def warn(case, folder):
    warnings.warn("not thought of", stacklevel=1)


def kind(run, **changes):
    return Kind(st.just(0), run, **changes)


KINDS = {
    "right": kind(lambda case, folder: None),
    "refuses": kind(raising(UserError("a\nb\x1b[2J"))),
    "cannot say": kind(raising(NotChecked("no network"))),
    "traceback": kind(raising(KeyError("x"))),
    "crash": kind(crash),
    "hang": kind(hang, seconds=1),
    "memory": kind(eat, limit_bytes=200_000_000),
    "writes": kind(write),
    "pickle": kind(unpickle),
    "starts a program": kind(start),
    "connects": kind(connect),
    "accepts wrongly": kind(raising(AcceptedWrongly("x"))),
    "refuses wrongly": kind(raising(RefusedWrongly("x"))),
    "two lines": kind(raising(Careless("a\nb"))),
    "control character": kind(raising(Careless("a\x1b[2J"))),
    "warns": kind(warn),
    "large numbers": Kind(st.integers(0, 10**6), divide),
}
