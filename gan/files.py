"""Writing files so that a reader sees the whole file or none of it, whenever the writer dies."""

import contextlib
import csv
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
from pathlib import Path

_MARK = "-writing-"  # in the name of what is not whole yet


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path beside `path` that replaces it, flushed to disk, when the block ends without an error.

    The temporary file has the suffix of `path`, since some libraries choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_up_after_the_killed(path.parent, path.stem, path.suffix)
    temporary = _new_name(path.parent, path.stem, path.suffix)
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
        _flush_to_disk(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def replacing_folder(path):
    """Yield a temporary folder that replaces the folder `path` as a whole when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_up_after_the_killed(path.parent, path.name)
    temporary = _new_name(path.parent, path.name)
    temporary.mkdir()
    handle = os.open(temporary, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield temporary
        for file in temporary.rglob("*"):
            _flush_to_disk(file)
        if path.exists():  # aside at once, so that nobody sees a part of it under its name
            old = _new_name(path.parent, path.name)
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, path)
        _flush_to_disk(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        os.close(handle)


def write_bytes(path, content):
    """Write `content` (bytes) to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path, value):
    """Write `value` as indented JSON, whole or not at all. Raises ValueError on NaN or infinity, which JSON does not have."""
    _require_finite(value, "")
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_csv(path, rows):
    """Write dicts with the same keys, an iterable of one or more, as a table with a header, whole or not at all."""
    rows = iter(rows)
    first = next(rows)
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, first, lineterminator="\n")
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(rows)


def sha256(path):
    """The hex SHA-256 of the file at `path`, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def try_lock(path):
    """The file at `path`, opened to read and append and locked by this process alone; None while another has it.

    Whoever has it removes the file before closing it: it is locked until then, and who opens the name next makes a new one.
    """
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (for who has it to close)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # its last holder may have removed it in between, and then somebody else may hold another file of that name
        if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()
    return None


def _new_name(folder, name, suffix=""):
    """An absolute path in `folder` that nothing has, for what becomes `name` with the suffix when it is whole."""
    return folder.absolute() / f".{name}{_MARK}{os.urandom(4).hex()}{suffix}"


def _clear_up_after_the_killed(folder, name, suffix=""):
    """Remove what writers of the file or folder `name` have left: those that live hold a lock on theirs."""
    left = re.compile(rf"\.{re.escape(name)}{_MARK}[a-z0-9_]{{8}}{re.escape(suffix)}")
    for path in folder.iterdir():
        if not left.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):  # somebody is at work on it, or has just ended
            handle = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(handle)


def _require_finite(value, name):
    if isinstance(value, dict):
        for key, item in value.items():
            _require_finite(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _require_finite(item, f"{name}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected a finite number for {name}, got {value}")


def _flush_to_disk(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
