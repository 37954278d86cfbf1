"""Prefect homes whose database has its tables: a server takes four seconds to make them, and every new home needs them."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tests.helpers.kept import kept

_NAME = "prefect.db"  # as Prefect calls it


def prefect_home(folder):
    """Make `folder` what it is after Prefect's first start in it, and return it. Prefect itself makes the tables, but once."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(kept(f"prefect-{version('prefect')}.db", _make_tables), folder / _NAME)
    return folder


def _make_tables(home):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
    subprocess.run(command, env={**environment, "PREFECT_HOME": str(home)}, check=True, capture_output=True, timeout=300)
    return home / _NAME
