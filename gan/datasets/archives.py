"""Taking known files out of a folder, a zip or a tar that may be damaged or hostile.

Nothing is ever unpacked under a name that the archive chose: each wanted file is streamed into a file of our own, no
further than its known size, and stays only if its sha256 is the expected one.
"""

import contextlib
import gzip
import hashlib
import re
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from gan.errors import DataError

CHUNK_BYTES = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"
_ZIP_MAGIC = b"PK\x03\x04"
# the other methods of a zip decode as much as they please in one call: a few kilobytes can fill the memory
_BOUNDED_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    ArithmeticError,  # of a length in a tar that no machine could count
    LookupError,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
)


def size_limit_bytes(files):
    """How much an archive of `files` may hold, packed or unpacked: twice the files, for what else lies in it."""
    return 2 * sum(file.size_bytes for file in files.values()) + (1 << 20)


def take_files(path, files, into):
    """Copy the `files` (name to ExpectedFile) out of the folder, zip or tar(.gz) at `path` into the folder `into`, decoded.

    Members are recognized whatever their folder (in a folder, up to two folders down), a `.gz` at the end, and `.`, `_` or `-`
    between the words of their names.
    Raises DataError in one line if a file is missing, damaged or not the expected one, or if the archive is unsafe.
    """
    missing = dict.fromkeys(files, "not there")
    with contextlib.closing(_members(Path(path), files)) as members:
        for label, stream in members:
            name = _wanted(label, files)
            if name not in missing:
                continue
            try:
                _take_stream(stream, name, files[name], into, label=_short(label))
            except DataError as error:
                missing[name] = str(error)
            else:
                del missing[name]
    if missing:
        raise DataError("; ".join(f"{name}: {reason}" for name, reason in missing.items()))


def take_file(path, name, file, into):
    """Copy the one file at `path`, decoded if it is gzip, to `name` in the folder `into`. Raises DataError, as `take_files`."""
    with open(path, "rb") as stream:
        _take_stream(stream, name, file, into, label=name)


def _take_stream(stream, name, file, into, *, label):
    digest = hashlib.sha256()
    taken_bytes = 0
    target = Path(into, name)
    try:
        with open(target, "wb") as output:
            for chunk in _decoded_chunks(stream, label):
                taken_bytes += len(chunk)
                if taken_bytes > file.size_bytes:
                    raise DataError(f"{label} holds more than the expected {file.size_bytes} bytes")
                digest.update(chunk)
                output.write(chunk)
        if taken_bytes < file.size_bytes:
            raise DataError(f"{label} holds {taken_bytes} bytes instead of {file.size_bytes}")
        if digest.hexdigest() != file.sha256:
            raise DataError(f"{label} has the sha256 {digest.hexdigest()[:12]}… instead of {file.sha256[:12]}…")
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _decoded_chunks(stream, label):
    with _reading(label):
        if stream.peek(2)[:2] == _GZIP_MAGIC:
            stream = gzip.GzipFile(fileobj=stream)
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _members(path, files):
    """Yield (label, stream) for each file in the folder or archive that has one of the wanted names."""
    with _reading("it"):
        if path.is_dir():
            return _folder_members(path, files)
        if not path.is_file():
            raise DataError("no such folder or file")
        with open(path, "rb") as file:
            magic = file.read(len(_ZIP_MAGIC))
    members = _zip_members if magic == _ZIP_MAGIC else _tar_members
    return members(path, files)


def _folder_members(path, files):
    with _reading("the folder"):
        for pattern in ("*", "*/*", "*/*/*"):
            for member in sorted(path.glob(pattern)):
                if _wanted(member.name, files) and member.is_file():
                    with open(member, "rb") as stream:
                        yield member.name, stream


def _zip_members(path, files):
    with _reading("the zip"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            _require_inside(member.filename)
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(f"refused: the member {_short(member.filename)} is a link or a device")
        wanted = [member for member in members if _wanted(member.filename, files) and not member.is_dir()]
        # zipfile yields no more than the size that a member claims
        if sum(member.file_size for member in wanted) > size_limit_bytes(files):
            raise DataError(f"refused: it unpacks to more than {size_limit_bytes(files)} bytes")
        for member in wanted:
            if member.compress_type not in _BOUNDED_ZIP_METHODS:
                raise DataError(f"refused: the member {_short(member.filename)} is neither stored nor deflated")
            with archive.open(member) as stream:
                yield member.filename, stream


def _tar_members(path, files):
    with _reading("the archive"), open(path, "rb") as file:
        stream = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == _GZIP_MAGIC else file
        bounded = _Bounded(stream, size_limit_bytes(files))
        with tarfile.open(fileobj=bounded, mode="r|") as archive:
            for member in archive:
                _require_inside(member.name)
                if not (member.isreg() or member.isdir()):
                    raise DataError(f"refused: the member {_short(member.name)} is a link or a device")
                if member.isreg() and _wanted(member.name, files):
                    yield member.name, archive.extractfile(member)


class _Bounded:
    """A file to read that ends in an error beyond `limit_bytes`, however little was compressed into however much."""

    def __init__(self, stream, limit_bytes):
        self._stream = stream
        self._limit_bytes = limit_bytes
        self._read_bytes = 0

    def read(self, size):
        chunk = self._stream.read(size)
        self._read_bytes += len(chunk)
        if self._read_bytes > self._limit_bytes:
            raise DataError(f"refused: it unpacks to more than {self._limit_bytes} bytes")
        return chunk


@contextlib.contextmanager
def _reading(label):
    """Turn what the readers of archives raise on damaged input into a DataError."""
    try:
        yield
    except _BROKEN as error:
        raise DataError(f"{label} is damaged or unreadable: {str(error).strip() or type(error).__name__}") from None


def _wanted(member_name, files):
    """The name among `files` that a member's name stands for, or None."""
    base = _as_path(member_name).name.removesuffix(".gz")
    name = re.sub("[._]", "-", base)
    return name if name in files else None


def _as_path(member_name):
    """A member's name as a path: some programs of Windows write backslashes into it."""
    return PurePosixPath(member_name.replace("\\", "/"))


def _require_inside(member_name):
    path = _as_path(member_name)
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", member_name):
        raise DataError(f"refused: the member {_short(member_name)} would lie outside the archive's folder")


def _short(member_name):
    """A member's name for a message: quoted, so that it holds no line breaks, and of bounded length."""
    return ascii(member_name[-80:])
