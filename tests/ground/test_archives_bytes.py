"""What Python's own version must not change of an archive that a stage writes."""

import zipfile

import numpy as np

from gan.arrays import load_archive, save_archive


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
