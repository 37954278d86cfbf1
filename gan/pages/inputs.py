"""Reading what the report shows; a file that is missing, damaged or something else is one clear DataError."""

import csv
import json
import re
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from gan.errors import DataError
from gan.images import enlarge
from gan.pages import png

_MAX_JSON_BYTES = 4_000_000  # two networks of the explorer at their largest have 1,000,000
_LONGEST_LINE = 10_000  # characters
_LARGEST = float(np.finfo(np.float32).max)  # whatever is measured comes from float32; beyond it, differences overflow
_LONGEST_NAME = 200  # characters of a metric's or a column's


def read_table(path, *, columns):
    """Read the CSV file at `path`: column name -> float64 [rows]. Steps are whole numbers and increase.

    Raises DataError when the file is missing or empty, lacks one of `columns`, or holds anything but finite numbers.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = _lines(file)
            (header,) = csv.reader([next(lines, "")], strict=True)
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # that there are no rows is told below
                # a row at a time: the lists of texts of a long run would take gigabytes
                table = np.loadtxt(lines, np.float64, delimiter=",", comments=None, quotechar='"', ndmin=2)
        rows = table.reshape(-1, len(header))
        if table.size and table.shape != rows.shape:
            raise ValueError(f"{len(header)} names stand over {table.shape[1]} columns")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `dvc repro` makes it") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: not a table of numbers under a header: {error}") from None
    if len(set(header)) < len(header) or not all(map(_is_name, header)):
        raise DataError(f"{path}: expected a header of different names, got {', '.join(header)}")
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; expected {', '.join(columns)}, got {', '.join(header)}")
    finite = np.abs(rows) <= _LARGEST  # also False for NaN
    if len(rows) == 0 or not finite.all():
        raise DataError(f"{path}: expected rows of finite numbers, got {len(rows)} rows with {(~finite).sum()} that are not")
    steps = rows[:, header.index("step")]
    if (steps != np.rint(steps)).any() or (np.diff(steps) <= 0).any():
        raise DataError(f"{path}: expected whole steps that increase")
    return dict(zip(header, rows.T, strict=True))


def read_metrics(path):
    """Read the JSON file at `path`: an object of finite numbers, else DataError."""
    metrics = _read_json(path)
    if not _is_numbers(metrics):
        raise DataError(f"{path}: expected an object of finite numbers")
    return metrics


def read_floor(path):
    """Read the metrics of real digits at `path`: name of a set of real digits -> its metrics, finite numbers; else DataError."""
    return _read_groups(path)


def read_tail_mean(path):
    """Read (G loss, D loss, D accuracy in percent), means over the end of training, from training's metrics at `path`."""
    names = ("g_loss", "d_loss", "d_accuracy_percent")
    tail_mean = _read_groups(path).get("tail_mean", {})
    if not tail_mean.keys() >= set(names):
        raise DataError(f"{path}: expected tail_mean with {', '.join(names)}")
    return tuple(tail_mean[name] for name in names)


def read_picture(path, *, scale):
    """Read the gray PNG at `path`, undo its enlargement by the whole factor `scale`, and return it as a `data:` URI.

    A page enlarges pixels as well as a file does, and the URIs are half the size. Raises DataError for anything but such a PNG.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            pixels = np.asarray(image)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `dvc repro` makes it") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable PNG: {error}") from None
    small = pixels[::scale, ::scale]
    if pixels.ndim != 2 or not np.array_equal(enlarge(small, scale)[: pixels.shape[0], : pixels.shape[1]], pixels):
        raise DataError(
            f"{path}: expected a gray picture of {scale} x {scale} squares, got another; `dvc repro gallery` makes it"
        )
    return png.data_uri(png.encode(small))


def snapshot_paths(folder):
    """The snapshots' grids in `folder`: [(step, path)], by step; DataError when there is none."""
    matches = ((re.fullmatch(r"img-(\d+)\.png", path.name), path) for path in Path(folder).glob("img-*.png"))
    found = sorted((int(match[1]), path) for match, path in matches if match)
    if not found:
        raise DataError(f"{folder}: no file img-<step>.png; `dvc repro gallery` makes them")
    return found


def thinned(items, *, most):
    """At most `most` (2 or more) of the items, equally far apart, counted from the last one, and the first one in any case."""
    stride = max(1, -(-(len(items) - 1) // (most - 1)))
    kept = items[::-1][::stride][::-1]
    return kept if (len(items) - 1) % stride == 0 else [items[0], *kept]


def _lines(file):
    """The lines of an open text file; ValueError for one that is empty, or longer than any of a table."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"it has a line of {_LONGEST_LINE} characters or more")
        if line.isspace():
            raise ValueError("it has an empty line")
        yield line


def read_explorer(folder, *, scale):
    """What the gallery in `folder` holds for the explorer: {"left_out": why} or {"left_out": "", "data", "plane", "directions"}.

    Pictures are `data:` URIs, enlarged by `scale` in the gallery. Raises DataError.
    """
    path = Path(folder) / "explorer.json"
    data = _read_json(path)
    if isinstance(data, dict) and isinstance(data.get("left_out"), str):
        return {"left_out": data["left_out"], "data": None}
    try:
        count = len(data["directions"]["shares_percent"])
        known = data["latent_dim"] > 0 and data["training"]["count"] > 0 and isinstance(data["text"], str)
    except (TypeError, KeyError):
        known = False
    if not known:
        raise DataError(f"{path}: not what the gallery writes; `dvc repro gallery` makes it")
    return {
        "left_out": "",
        "data": data,
        "plane": read_picture(path.with_name("plane.png"), scale=scale),
        "directions": [read_picture(path.with_name(f"direction-{index + 1}.png"), scale=scale) for index in range(count)],
    }


def _read_json(path):
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_JSON_BYTES + 1)
        if len(content) > _MAX_JSON_BYTES:
            raise ValueError(f"it is larger than {_MAX_JSON_BYTES:,} bytes, which no metrics are")
        return json.loads(content)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `dvc repro` makes it") from None
    except RecursionError:
        raise DataError(f"{path}: not valid JSON: too deep") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}") from None


def _read_groups(path):
    groups = _read_json(path)
    if not isinstance(groups, dict) or not all(map(_is_name, groups)) or not all(map(_is_numbers, groups.values())):
        raise DataError(f"{path}: expected an object of objects of finite numbers")
    return groups


def _is_numbers(value):
    return isinstance(value, dict) and all(_is_name(name) and _is_number(item) for name, item in value.items())


def _is_number(value):
    return type(value) in (int, float) and abs(value) <= _LARGEST


def _is_name(text):
    return 0 < len(text) <= _LONGEST_NAME and text.isprintable()
