"""Prefect homes whose database has its tables: a server takes four seconds to make them, and every new home needs them."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

_KEPT = Path(__file__).resolve().parents[2] / ".scratch" / "tests"
_NAME = "prefect.db"  # as Prefect calls it


def prefect_home(folder):
    """Make `folder` what it is after Prefect's first start in it, and return it. Prefect itself makes the tables, but once."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_with_tables(), folder / _NAME)
    return folder


def _with_tables():
    kept = _KEPT / f"prefect-{version('prefect')}.db"
    if kept.exists():
        return kept
    _KEPT.mkdir(parents=True, exist_ok=True)
    with open(_KEPT / "prefect.lock", "w") as lock:  # of several test processes, one makes it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=_KEPT) as home:
                environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
                command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
                subprocess.run(command, env={**environment, "PREFECT_HOME": home}, check=True, capture_output=True, timeout=300)
                os.replace(Path(home) / _NAME, kept)
    return kept
