"""Checkpoints in a scratch folder: written whole, verified when read, replaced when damaged, used by one process at a time.

The folder's name is the run's key, a hash of everything that its result depends on.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import shutil
import time
from pathlib import Path

import numpy as np

from gan.arrays import read_archive
from gan.errors import UserError
from gan.files import try_lock, write_bytes

_KEPT = 2


def run_key(params, pixels, labels, *, code_files):
    """A hash of all that the result depends on: parameters (the kind of processor among them), data, code and libraries.

    params: TrainParams; pixels: uint8 [n, 28, 28, 1]; labels: uint8 [n] or None; code_files: path of every file of this project
    that training runs, by its name.
    """
    everything = {
        "params": params.model_dump(),
        "images": hashlib.sha256(pixels).hexdigest(),
        "labels": None if labels is None else hashlib.sha256(labels).hexdigest(),
        "code": {name: Path(path).read_text(encoding="utf-8") for name, path in code_files.items()},
        "libraries": {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy", "scipy")},
        "machine": [platform.system(), platform.machine()],
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:32]


class Scratch:
    """The folder of one training run; `key` identifies everything that its result depends on.

    Use it as a context manager: it is locked against other processes until the block ends or the process dies, however it dies.
    Raises UserError when another process still holds it after `wait_seconds`.
    """

    def __init__(self, parent, key, *, wait_seconds=20.0, log=print):
        self.folder = Path(parent) / key
        self._lock_path = self.folder.parent / f"{key}.lock"
        self._wait_seconds = wait_seconds
        self._log = log

    def __enter__(self):
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + self._wait_seconds
        announced = False
        while not self._try_lock():
            holder = self._holder()
            if holder and not announced:
                self._log(f"waiting up to {self._wait_seconds:.0f} s for process {holder}, which runs this very training")
                announced = True
            if time.monotonic() > deadline:
                raise UserError(f"this very training is already running in process {holder or '?'}; wait for it or stop it")
            time.sleep(0.1)
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        self.folder.mkdir(exist_ok=True)  # under the lock, as its removal: Path.mkdir fails on a folder that goes at that moment
        for unfinished in self.folder.glob(".checkpoint-*"):  # of a process that was killed while writing
            unfinished.unlink()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # only an empty one goes
        self._lock_path.unlink(missing_ok=True)  # while it is held: who opens it now makes a new one
        self._lock.close()

    def save(self, step, arrays):
        """Write the checkpoint of `step`: `arrays` name -> ndarray. The newest two are kept, in case the last turns out damaged.

        Returns whether it is on the disk. A full disk is no reason to stop training: the failed write is logged and leaves the
        older checkpoints as they are.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        content = buffer.getvalue()
        try:
            write_bytes(self._path(step), hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        except OSError as error:
            self._log(f"no checkpoint at step {step}: {error.strerror}; training goes on")
            return False
        for old in self._paths()[:-_KEPT]:
            old.unlink(missing_ok=True)
        return True

    def load(self):
        """The newest checkpoint that is whole, as a dict of arrays, or None. Damaged ones are logged and deleted.

        Raises UserError for one that cannot be read: it may be whole, and is left alone.
        """
        for path in reversed(self._paths()):
            try:
                digest, _, content = path.read_bytes().partition(b"\n")
                if hashlib.sha256(content).hexdigest().encode() == digest:
                    return read_archive(io.BytesIO(content))
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise UserError(f"checkpoint {path} cannot be read: {reason}; try again, or delete it") from None
            self._log(f"checkpoint {path.name} is damaged (its checksum does not match); ignored")
            with contextlib.suppress(OSError):
                path.unlink()
        return None

    def remove(self):
        """Delete the folder: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _paths(self):
        return sorted(self.folder.glob("checkpoint-*.npz"))

    def _path(self, step):
        return self.folder / f"checkpoint-{step:09d}.npz"

    def _try_lock(self):
        self._lock = try_lock(self._lock_path)
        return self._lock is not None

    def _holder(self):
        """The number of the process that has the lock; "" for a moment after it has taken it."""
        with contextlib.suppress(FileNotFoundError):
            return self._lock_path.read_text(encoding="utf-8")
        return ""
