import struct

import numpy as np
import pytest

from gan.datasets import idx
from gan.errors import DataError


def idx_bytes(shape, body, magic=b"\0\0\x08"):
    return magic + bytes([len(shape)]) + b"".join(struct.pack(">I", size) for size in shape) + body


def test_images_are_read_in_c_order(tmp_path):
    path = tmp_path / "images"
    # the format's own example of two images of two rows and three columns, spelled out byte by byte
    path.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 255, 8, 9, 10, 11, 0]))
    images = idx.read(path, shape=(2, 2, 3))
    assert images.dtype == np.uint8
    assert images.tolist() == [[[1, 2, 3], [4, 5, 6]], [[255, 8, 9], [10, 11, 0]]]
    with pytest.raises(ValueError, match="read-only"):
        images[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "magic number 00000803, got an empty file"),
        (b"\0\0\x08", "magic number 00000803, got 000008$"),
        (idx_bytes((2, 2, 3), bytes(12), magic=b"\0\x01\x08"), "magic number 00000803, got 00010803"),
        (idx_bytes((2, 2, 3), bytes(12), magic=b"\0\0\x0d"), "magic number 00000803, got 00000d03"),
        (idx_bytes((12,), bytes(12)), "magic number 00000803, got 00000801"),
        (b"\x1f\x8b\x08\0" + bytes(24), "magic number 00000803, got 1f8b0800"),
        (idx_bytes((2, 2, 3), b"")[:10], "truncated: expected a header of 16 bytes, got 10 bytes"),
        (idx_bytes((3, 2, 3), bytes(18)), r"expected the shape \[2, 2, 3\], got \[3, 2, 3\]"),
        (idx_bytes((2, 3, 2), bytes(12)), r"expected the shape \[2, 2, 3\], got \[2, 3, 2\]"),
        (idx_bytes((2**32 - 1, 2**32 - 1, 2**32 - 1), bytes(12)), "expected the shape"),
        (struct.pack("<4I", 0x03080000, 2, 2, 3) + bytes(12), "expected the shape"),
        (idx_bytes((2, 2, 3), bytes(11)), "truncated: expected 28 bytes, got 27"),
        (idx_bytes((2, 2, 3), b""), "truncated: expected 28 bytes, got 16"),
        (idx_bytes((2, 2, 3), bytes(13)), "over-long: expected 28 bytes, got 29"),
    ],
)
def test_what_is_not_the_expected_array_is_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        idx.read(path, shape=(2, 2, 3))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_labels_are_read(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(idx_bytes((4,), bytes([0, 9, 5, 0])))
    assert idx.read_labels(path, count=4, classes=10).tolist() == [0, 9, 5, 0]


def test_the_first_label_out_of_range_is_named(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(idx_bytes((4,), bytes([0, 9, 10, 255])))
    with pytest.raises(DataError, match="expected labels from 0 to 9, got 10 at index 2"):
        idx.read_labels(path, count=4, classes=10)
