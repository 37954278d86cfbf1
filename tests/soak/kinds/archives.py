"""Folders, zips and tars of MNIST, damaged and hostile, and IDX files."""

import bz2
import functools
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import warnings
import zipfile
import zlib

import numpy as np
from hypothesis import strategies as st

from gan.datasets import archives, idx
from tests.helpers.serving import CONTENTS, expected_files
from tests.soak.case import AcceptedWrongly, Kind, RefusedWrongly, mostly
from tests.soak.kinds import bytes_edits

NAMES = list(CONTENTS)
PLAIN_FOLDERS = ("", "mnist/", "a/b/", "./")
OUTSIDE_FOLDERS = ("../", "/", "a/../../", "..\\", "C:\\", "//host/share/", "/proc/self/cwd/../")
CONTENT = ("good", "good gzip", "junk", "empty", "short", "long", "bomb", "bomb gzip", "bomb gzip gzip", "other")
TYPES = ("file", "symlink", "hardlink", "device", "fifo", "folder")

member = st.fixed_dictionaries(
    {
        "name": st.sampled_from(NAMES)
        | st.sampled_from([name + ".gz" for name in NAMES] + ["README", "train_labels.idx1_ubyte", "\udcff", "x" * 300]),
        "folder": st.sampled_from(PLAIN_FOLDERS) | st.sampled_from(OUTSIDE_FOLDERS),
        "type": st.sampled_from(("file",) * 8 + TYPES),
        "content": st.sampled_from(("good",) * 4 + CONTENT),
        "lie": st.sampled_from(
            [None] * 8 + ["size 0", "size huge", "crc", "encrypted", "method bz2", "method lzma", "method 99"]
        ),
    }
)
archive = st.fixed_dictionaries(
    {
        "container": st.sampled_from(["zip", "tar", "tar.gz", "tar.xz", "folder", "pax", "gnu"]),
        "all good first": st.booleans(),
        "members": st.lists(member, max_size=5),
        "edits": mostly([], bytes_edits.edits),
        "prefix": st.sampled_from([""] * 8 + ["504b0304", "1f8b08", "1f8b", "425a68"]),
    }
)


def content_of(name, what):
    """Bytes of a member."""
    good = CONTENTS.get(name.removesuffix(".gz"), b"text")
    if what == "bomb gzip gzip":
        return gzip.compress(_gzip_bomb())
    return {
        "good": lambda: good,
        "good gzip": lambda: gzip.compress(good),
        "junk": lambda: bytes(range(256)),
        "empty": lambda: b"",
        "short": lambda: good[:-1],
        "long": lambda: good + b"x",
        "bomb": lambda: bytes(5_000_000),
        "bomb gzip": _gzip_bomb,
        "other": lambda: good[::-1],
    }[what]()


def deflated_zeros(count):
    """A raw deflate stream of about `count` zeros, made at once: a block that needs nothing before it, repeated."""
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    block_bytes = 1 << 24
    block = press.compress(bytes(block_bytes)) + press.flush(zlib.Z_FULL_FLUSH)
    return block * -(-count // block_bytes) + b"\x03\x00"


@functools.cache
def _gzip_bomb():
    """Two gigabytes of zeros as gzip, whose sum at the end is wrong: nobody should get there."""
    return gzip.compress(b"")[:10] + deflated_zeros(2 << 30) + bytes(8)


def _zip(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file, warnings.catch_warnings(action="ignore"):  # that a name comes twice
        for one in members:
            info = zipfile.ZipInfo(one["folder"] + one["name"].encode("utf-8", "replace").decode())
            kind = {"symlink": stat.S_IFLNK, "device": stat.S_IFBLK, "fifo": stat.S_IFIFO, "folder": stat.S_IFDIR}.get(
                one["type"], stat.S_IFREG
            )
            info.external_attr = (kind | 0o644) << 16
            info.compress_type = {"method bz2": zipfile.ZIP_BZIP2, "method lzma": zipfile.ZIP_LZMA}.get(
                one["lie"], zipfile.ZIP_DEFLATED
            )
            if one["type"] == "folder":
                info.filename += "/"
            file.writestr(info, content_of(one["name"], one["content"]) if one["type"] != "folder" else b"")
    data = bytearray(buffer.getvalue())
    place = 0
    for one in members:  # the lies stand in the central directory, which is what zipfile believes
        place = data.find(b"PK\x01\x02", place)
        if one["lie"] == "size 0":
            struct.pack_into("<I", data, place + 24, 0)
        elif one["lie"] == "size huge":
            struct.pack_into("<I", data, place + 24, 0xFFFFFFF0)
        elif one["lie"] == "crc":
            struct.pack_into("<I", data, place + 16, 12345)
        elif one["lie"] == "encrypted":
            struct.pack_into("<H", data, place + 8, 1)
        elif one["lie"] == "method 99":
            struct.pack_into("<H", data, place + 10, 99)
        place += 4
    return bytes(data)


def _tar(members, container):
    buffer = io.BytesIO()
    style = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}.get(container, tarfile.DEFAULT_FORMAT)
    with tarfile.open(fileobj=buffer, mode="w", format=style, errors="surrogateescape") as file:
        for one in members:
            info = tarfile.TarInfo(one["folder"] + one["name"])
            info.type = {
                "symlink": tarfile.SYMTYPE,
                "hardlink": tarfile.LNKTYPE,
                "device": tarfile.BLKTYPE,
                "fifo": tarfile.FIFOTYPE,
                "folder": tarfile.DIRTYPE,
            }.get(one["type"], tarfile.REGTYPE)
            if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = "../../outside/canary"
            content = content_of(one["name"], one["content"]) if info.type == tarfile.REGTYPE else b""
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    data = buffer.getvalue()
    return {"tar.gz": gzip.compress, "tar.xz": lzma.compress, "tar.bz2": bz2.compress}.get(container, bytes)(data)


def _folder(members, path):
    path.mkdir()
    for one in members:
        if one["folder"] not in PLAIN_FOLDERS or len(one["name"]) > 200:
            continue
        target = path / one["folder"] / one["name"]
        if os.path.lexists(target):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if one["type"] == "file":
            target.write_bytes(content_of(one["name"], one["content"]))
        elif one["type"] == "folder":
            target.mkdir()
        elif one["type"] == "fifo":
            os.mkfifo(target)
        else:
            target.symlink_to({"symlink": "/dev/zero", "hardlink": "nowhere", "device": target.name}[one["type"]])


def run_archive(case, folder):
    """`MNIST_SOURCE=<the archive>`."""
    first = (
        [{"name": name, "folder": "", "type": "file", "content": "good", "lie": None} for name in NAMES]
        if case["all good first"]
        else []
    )
    members = first + case["members"]
    path = folder / "source"
    if case["container"] == "folder":
        _folder(members, path)
    else:
        data = _zip(members) if case["container"] == "zip" else _tar(members, case["container"])
        path.write_bytes(bytes.fromhex(case["prefix"]) + bytes_edits.apply(data, case["edits"]))
    into = folder / "into"
    into.mkdir()
    untouched = not case["edits"] and not case["prefix"]
    try:
        archives.take_files(path, expected_files(), into)
    except archives.DataError as error:
        if untouched and case["all good first"] and not case["members"] and case["container"] != "tar.xz":
            raise RefusedWrongly(str(error)) from None
        if list(into.iterdir()):
            # what was taken before the fault may lie there, but only under the names that were asked for, and only whole
            _require_whole(into, every=False)
        raise
    _require_whole(into, every=True)
    unsafe = [one for one in members if one["folder"] in OUTSIDE_FOLDERS or one["type"] not in ("file", "folder")]
    if untouched and unsafe and case["container"] != "folder":
        raise AcceptedWrongly(f"with the unsafe member {unsafe[0]}")


def _require_whole(into, *, every):
    found = {path.name: path.read_bytes() for path in into.iterdir()}
    if not found.items() <= CONTENTS.items() or (every and found != CONTENTS):
        raise AcceptedWrongly(f"took other bytes: {sorted(found)}")


numbers = st.sampled_from([0, 1, 2, 3, 4, 255, 2**31 - 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
idx_file = st.fixed_dictionaries(
    {
        "magic": mostly(
            "00000803", st.sampled_from(["00000801", "00000903", "00000D03", "00000800", "000008ff", "1f8b0800", "00", ""])
        ),
        "shape": mostly([3, 28, 28], st.lists(numbers, max_size=4)),
        "bytes": mostly(3 * 28 * 28, st.integers(0, 5000)),
        "edits": mostly([], bytes_edits.edits),
        "fill": st.integers(0, 255),
    }
)


def run_idx(case, folder):
    """`data/raw` as normalize reads it."""
    data = (
        bytes.fromhex(case["magic"])
        + struct.pack(f">{len(case['shape'])}I", *case["shape"])
        + bytes([case["fill"]]) * case["bytes"]
    )
    data = bytes_edits.apply(data, case["edits"])
    (folder / "images").write_bytes(data)
    right = data[:16] == struct.pack(">HBBIII", 0, 8, 3, 3, 28, 28) and len(data) == 16 + 3 * 28 * 28
    try:
        pixels = idx.read("images", shape=(3, 28, 28))
    except idx.DataError as error:
        if right:
            raise RefusedWrongly(str(error)) from None
        raise
    if not right or pixels.tobytes() != data[16:]:
        raise AcceptedWrongly("no IDX file of that shape")


labels_file = st.fixed_dictionaries(
    {"labels": mostly([0, 1, 2, 3, 9], st.lists(st.integers(0, 255), max_size=6)), "edits": mostly([], bytes_edits.edits)}
)


def run_labels(case, folder):
    """Labels, of which five are expected."""
    data = bytes_edits.apply(struct.pack(">HBBI", 0, 8, 1, len(case["labels"])) + bytes(case["labels"]), case["edits"])
    (folder / "labels").write_bytes(data)
    right = data[:8] == struct.pack(">HBBI", 0, 8, 1, 5) and len(data) == 13 and max(data[8:]) < 10
    try:
        labels = idx.read_labels("labels", count=5, classes=10)
    except idx.DataError as error:
        if right:
            raise RefusedWrongly(str(error)) from None
        raise
    if not right or not np.array_equal(labels, np.frombuffer(data[8:], np.uint8)):
        raise AcceptedWrongly("no file of five labels below 10")


KINDS = {
    "archives": Kind(archive, run_archive, _gzip_bomb, share=4),
    "idx": Kind(idx_file, run_idx, share=1),
    "idx labels": Kind(labels_file, run_labels, share=1),
}
