"""Pixels to [-1, 1] and back, and tiling."""

from pathlib import Path

import numpy as np
import pytest

from gan.images import enlarge, tile, to_uint8, to_unit_range

ROOT = Path(__file__).resolve().parents[2]
ALL_VALUES = np.arange(256, dtype=np.uint8)


def test_all_256_values_come_back():
    assert np.array_equal(to_uint8(to_unit_range(ALL_VALUES)), ALL_VALUES)


def test_unit_range_is_the_published_formula_in_float32():
    unit = to_unit_range(ALL_VALUES)
    assert unit.dtype == np.float32
    assert (unit[0], unit[255]) == (-1, 1)
    np.testing.assert_allclose(unit, np.arange(256) / 127.5 - 1, atol=1e-7)


def test_unit_range_takes_only_bytes():
    with pytest.raises(TypeError, match="expected uint8 pixels, got float32"):
        to_unit_range(np.zeros(3, np.float32))


def test_shape_is_kept():
    assert to_unit_range(np.zeros((2, 28, 28, 1), np.uint8)).shape == (2, 28, 28, 1)
    assert to_uint8(np.zeros((2, 28, 28, 1), np.float32)).shape == (2, 28, 28, 1)


def test_bytes_round_to_nearest_and_clip():
    # one gray step is 2 / 255: 0.4 of it rounds down to the gray below, 0.6 up
    step = 2 / 255
    images = np.array([-1 + 0.4 * step, -1 + 0.6 * step, -1.5, 1.5, -np.inf, np.inf], np.float32)
    assert to_uint8(images).tolist() == [0, 1, 0, 255, 0, 255]


def test_nan_has_no_gray_value():
    with pytest.raises(ValueError, match="got NaN"):
        to_uint8(np.array([0, np.nan], np.float32))


@pytest.mark.parametrize("channel", [(), (1,)])
def test_tile_lays_out_row_by_row_and_fills_with_black(channel):
    # five images of 2 x 3 pixels, each of one gray, in two columns: the sixth cell stays black
    images = np.repeat(np.arange(1, 6, dtype=np.uint8), 6).reshape(5, 2, 3, *channel)
    expected = [
        [1, 1, 1, 2, 2, 2],
        [1, 1, 1, 2, 2, 2],
        [3, 3, 3, 4, 4, 4],
        [3, 3, 3, 4, 4, 4],
        [5, 5, 5, 0, 0, 0],
        [5, 5, 5, 0, 0, 0],
    ]
    assert tile(images, columns=2).tolist() == expected


def test_tile_keeps_each_image_upright():
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    assert tile(image, columns=1).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_enlarge_makes_each_pixel_a_square():
    assert enlarge(np.array([[1, 2]], np.uint8), 2).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


def test_nobody_else_writes_the_half_range():
    others = [path for folder in ("gan", "stages") for path in (ROOT / folder).rglob("*.py") if path.name != "images.py"]
    assert others
    assert [path.name for path in others if "127.5" in path.read_text()] == []
