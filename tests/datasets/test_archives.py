import gzip
import io
import os
import stat
import tarfile
import tracemalloc
import zipfile

import pytest

from gan.datasets.archives import size_limit_bytes, take_file, take_files
from gan.errors import DataError
from tests.helpers.serving import CONTENTS, expected_files

IMAGES = "train-images-idx3-ubyte"


def write_folder(path, members):
    for name, body in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(body)


def write_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, body in members.items():
            archive.writestr(name, body)


def write_tar(path, members, mode="w:gz"):
    """members: name to bytes, or to a TarInfo of a special kind."""
    with tarfile.open(path, mode) as archive:
        for name, body in members.items():
            if isinstance(body, tarfile.TarInfo):
                archive.addfile(body)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


@pytest.fixture
def into(tmp_path):
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def refusal(path, into):
    """The one line that ends taking the files at `path`; nothing may be left in `into` or have been written beside it."""
    before = sorted(into.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        take_files(path, expected_files(), into)
    good = {into / name for name in CONTENTS}
    assert set(into.parent.rglob("*")) - good == set(before) - good
    for file in into.iterdir():  # what was verified before the bad member came may be there
        assert file.read_bytes() == CONTENTS[file.name]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def dotted(name):
    return name.replace("-idx", ".idx")


LAYOUTS = {
    "plain": CONTENTS,
    "gzip": {f"{name}.gz": gzip.compress(body) for name, body in CONTENTS.items()},
    "wheel": {
        **{f"build/__MACOSX/MNIST/._{dotted(name)}": b"litter" for name in CONTENTS},
        **{f"build/MNIST/{dotted(name)}": body for name, body in CONTENTS.items()},
        "build/METADATA": b"Name: MNIST",
    },
    "backslashes": {f"MNIST\\raw\\{name}.gz": gzip.compress(body) for name, body in CONTENTS.items()},
    "npm": {"package/package.json": b"{}", **{f"package/data/{name}": body for name, body in CONTENTS.items()}},
    "wrong ones first": {
        **{f"a/{name}": b"wrong" for name in CONTENTS},
        **{f"b/{name}": body for name, body in CONTENTS.items()},
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
def test_good_files_are_found_and_decoded(tmp_path, into, layout, kind):
    path = tmp_path / "given"
    members = LAYOUTS[layout]
    if kind == "folder":
        write_folder(path, members)
    elif kind == "zip":
        write_zip(path, members)
    else:
        write_tar(path, members, mode="w:gz" if kind == "tar.gz" else "w")
    take_files(path, expected_files(), into)
    assert {file.name: file.read_bytes() for file in into.iterdir()} == CONTENTS


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "0 bytes instead of 10240"),
        (CONTENTS[IMAGES][:-1], "10239 bytes instead of 10240"),
        (CONTENTS[IMAGES] + b"x", "more than the expected 10240 bytes"),
        (CONTENTS[IMAGES][:-1] + b"x", "sha256"),
        (gzip.compress(CONTENTS[IMAGES])[:-20], "damaged"),
        (gzip.compress(CONTENTS[IMAGES])[:30] + bytes(40), "damaged"),
        (b"\x1f\x8bnot gzip", "damaged"),
    ],
    ids=["empty", "short", "long", "wrong", "truncated gzip", "damaged gzip", "no gzip"],
)
def test_a_file_that_is_not_the_expected_one_is_refused(tmp_path, into, body, reason):
    path = tmp_path / "given"
    write_folder(path, {**CONTENTS, IMAGES: body})
    message = refusal(path, into)
    assert IMAGES in message
    assert reason in message
    assert "train-labels" not in message


def test_missing_files_are_named(tmp_path, into):
    path = tmp_path / "given"
    write_folder(path, {IMAGES: CONTENTS[IMAGES], "t10k-labels-idx1-ubyte": CONTENTS["t10k-labels-idx1-ubyte"]})
    assert refusal(path, into) == "train-labels-idx1-ubyte: not there; t10k-images-idx3-ubyte: not there"


def test_what_does_not_exist_and_what_is_no_file_is_refused(tmp_path, into):
    assert refusal(tmp_path / "nowhere", into) == "no such folder or file"
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe", into) == "no such folder or file"
    assert "File name too long" in refusal(tmp_path / ("x" * 300), into)
    (tmp_path / "text").write_text("hello")
    assert "damaged" in refusal(tmp_path / "text", into)


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_a_truncated_archive_is_refused(tmp_path, into, write, fraction):
    path = tmp_path / "given"
    write(path, CONTENTS)
    os.truncate(path, int(path.stat().st_size * fraction))
    refusal(path, into)


def test_a_zip_with_damaged_contents_is_refused(tmp_path, into):
    path = tmp_path / "given"
    write_zip(path, CONTENTS, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(CONTENTS[IMAGES][:100], b"x" * 100, 1))
    assert "CRC" in refusal(path, into)


def test_a_tar_with_a_length_beyond_all_machines_is_refused(tmp_path, into):
    header = tarfile.TarInfo("pax")
    header.type, record = tarfile.XHDTYPE, b"99999999999999999999 path=x\n"
    header.size = len(record)
    (tmp_path / "given").write_bytes(header.tobuf() + record.ljust(512, b"\0") + bytes(1024))
    assert "damaged" in refusal(tmp_path / "given", into)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:\\evil", f"../into/{IMAGES}", "../a\nb"])
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_a_member_outside_is_refused_even_beside_good_files(tmp_path, into, write, name):
    path = tmp_path / "given"
    write(path, {**CONTENTS, name: b"evil"})
    assert "would lie outside" in refusal(path, into)


@pytest.mark.parametrize(
    "member",
    [
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special(IMAGES, tarfile.SYMTYPE, "/etc/passwd"),
        special(IMAGES, tarfile.LNKTYPE, "../../etc/passwd"),
        special("device", tarfile.CHRTYPE),
        special("disk", tarfile.BLKTYPE),
        special(IMAGES, tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name}-{member.type.decode()}",
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, into, member):
    path = tmp_path / "given"
    write_tar(path, {**CONTENTS, "special": member})
    assert "is a link or a device" in refusal(path, into)


def test_a_link_in_a_zip_is_refused(tmp_path, into):
    path = tmp_path / "given"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo(IMAGES)
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert "is a link or a device" in refusal(path, into)


def test_zip_methods_without_a_bound_are_refused(tmp_path, into):
    path = tmp_path / "given"
    write_zip(path, CONTENTS, zipfile.ZIP_BZIP2)
    assert "neither stored nor deflated" in refusal(path, into)


def test_an_encrypted_zip_is_refused(tmp_path, into):
    path = tmp_path / "given"
    write_zip(path, CONTENTS, zipfile.ZIP_STORED)
    body = bytearray(path.read_bytes())
    for signature, flags_offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = body.index(signature)
        body[start + flags_offset] |= 1
    path.write_bytes(body)
    assert "encrypted" in refusal(path, into)


def zeros_gz(megabytes):
    """A gzip file of many members that decodes to `megabytes` of zeros."""
    return gzip.compress(bytes(16 << 20)) * (megabytes // 16)


def tar_header(name, kind, size):
    info = special(name, kind)
    info.size = size
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT))


BOMB_MEGABYTES = 4096
BOMBS = {
    "gzip": lambda path: write_folder(path, {**CONTENTS, f"{IMAGES}.gz": zeros_gz(BOMB_MEGABYTES)}),
    "tar member": lambda path: path.write_bytes(
        tar_header(IMAGES, tarfile.REGTYPE, BOMB_MEGABYTES << 20) + zeros_gz(BOMB_MEGABYTES)
    ),
    "tar filler": lambda path: path.write_bytes(
        tar_header("x", tarfile.REGTYPE, BOMB_MEGABYTES << 20) + zeros_gz(BOMB_MEGABYTES)
    ),
    "tar header": lambda path: path.write_bytes(
        tar_header("x", tarfile.XHDTYPE, BOMB_MEGABYTES << 20) + zeros_gz(BOMB_MEGABYTES)
    ),
    "tar name": lambda path: path.write_bytes(
        tar_header("x", tarfile.GNUTYPE_LONGNAME, BOMB_MEGABYTES << 20) + zeros_gz(BOMB_MEGABYTES)
    ),
    "zip": lambda path: write_zip(path, {IMAGES: bytes(64 << 20)}),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_takes_neither_memory_nor_disk_nor_time(tmp_path, into, bomb):
    path = tmp_path / "given"
    BOMBS[bomb](path)
    if bomb == "gzip":
        (path / IMAGES).unlink()
    tracemalloc.start()
    try:
        message = refusal(path, into)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ("holds more than" if bomb == "gzip" else "unpacks to more than") in message
    assert peak_bytes < 4 * size_limit_bytes(expected_files())


def test_a_member_that_lies_about_its_size_is_cut_off(tmp_path, into):
    path = tmp_path / "given"
    write_zip(path, {**CONTENTS, IMAGES: bytes(4 << 20)})
    body = path.read_bytes()
    real, claimed = (4 << 20).to_bytes(4, "little"), len(CONTENTS[IMAGES]).to_bytes(4, "little")
    path.write_bytes(body.replace(real, claimed))
    assert IMAGES in refusal(path, into)


def test_a_full_disk_is_not_blamed_on_the_archive(tmp_path):
    write_folder(tmp_path / "given", CONTENTS)
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / IMAGES).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        take_files(tmp_path / "given", expected_files(), tmp_path / "into")


def test_one_file_is_taken_plain_or_gzip(tmp_path, into):
    for body in (CONTENTS[IMAGES], gzip.compress(CONTENTS[IMAGES])):
        (tmp_path / "download").write_bytes(body)
        take_file(tmp_path / "download", IMAGES, expected_files()[IMAGES], into)
        assert (into / IMAGES).read_bytes() == CONTENTS[IMAGES]
