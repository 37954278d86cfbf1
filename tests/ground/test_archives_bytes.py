"""What Python's own version must not change of an archive that a stage writes, and what none may say of itself."""

import zipfile

import numpy as np
import pytest

from gan.arrays import load_archive, save_archive
from gan.errors import DataError


def test_an_archive_has_no_header_that_differs_between_versions_of_python(tmp_path):
    steps = np.arange(3)
    for name in ("a.npz", "b.npz"):
        save_archive(tmp_path / name, steps=steps, images=np.zeros((2, 3), np.uint8))
    content = (tmp_path / "a.npz").read_bytes()
    assert content == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        # the extra field is where zip64 sizes stand: written before Python 3.11.4 in one way, and in another since
        assert [(member.filename, member.extra, member.date_time[0]) for member in archive.infolist()] == [
            ("steps.npy", b"", 1980),
            ("images.npy", b"", 1980),
        ]
        # in the header before a member's data as well, 28 bytes into it
        assert all(content[member.header_offset + 28 :][:2] == b"\0\0" for member in archive.infolist())
    loaded = load_archive(tmp_path / "a.npz", "archive")
    np.testing.assert_array_equal(loaded["steps"], steps)
    with np.load(tmp_path / "a.npz") as by_numpy:
        assert by_numpy["images"].dtype == np.uint8 and list(by_numpy) == ["steps", "images"]


def with_size(content, name, size_bytes):
    """An archive's bytes, whose directory says that the member `name` has that size once it is unpacked."""
    at = content.rindex(b"PK\x01\x02", 0, content.rindex(name))
    return content[: at + 24] + size_bytes.to_bytes(4, "little") + content[at + 28 :]


def test_a_member_that_says_that_it_is_larger_is_not_filled_up_with_zeros(tmp_path):
    whole, path = tmp_path / "whole.npz", tmp_path / "a.npz"
    save_archive(whole, ones=np.ones(1000), more=np.ones(1000))
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ones.npy", members["ones.npy"][:200])
        archive.writestr("more.npy", members["more.npy"])
    # the file has as many bytes as its members say, for it has others before them
    path.write_bytes(bytes(10_000) + with_size(path.read_bytes(), b"ones.npy", len(members["ones.npy"])))
    with pytest.raises(DataError, match="its members say that they are larger than the file holds"):
        load_archive(path, "archive")


def test_members_that_share_their_bytes_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", bytes(1000))
        for number in range(100):
            again = zipfile.ZipInfo(f"{number}.npy")
            again.file_size = again.compress_size = 1000
            again.CRC, again.header_offset = archive.infolist()[0].CRC, 0
            archive.filelist.append(again)
    with pytest.raises(DataError, match="its members say that they are larger than the file holds"):
        load_archive(path, "archive")


def test_a_compressed_archive_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", zeros=np.zeros(1000))
    with pytest.raises(DataError, match="it is compressed"):
        load_archive(tmp_path / "a.npz", "archive")
