"""What the report and the gallery read: tables, metrics, pictures, titles."""

import contextlib
import functools
import html.parser
import io
import json
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gan.errors import DataError, ParamsError
from gan.pages import inputs
from tests.soak.case import AcceptedWrongly, Kind, RefusedWrongly, mostly
from tests.soak.frame import ROOT
from tests.soak.kinds import bytes_edits

MARKUP = (
    "<script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    '" onload="alert(1)',
    "' autofocus onfocus='x",
    "{{ 7 * 7 }}",
    "{% include '/etc/passwd' %}",
    "&lt;b&gt;",
    "<!--",
    "]]>",
    "</svg><script>",
    "a\x00b",
    "\u202egnp.exe",
    "x" * 201,
    "",
    " ",
    "\n",
    "javascript:alert(1)",
)
CELLS = (
    "0",
    "-1",
    "1e308",
    "-1e308",
    "1e-320",
    "nan",
    "inf",
    "1e400",
    "",
    " 1",
    "0x10",
    "1_0",
    "٣",
    "1,5",
    '"1"',
    '"1\n2"',
    "x" * 200_000,
    "9" * 500,
    "-0",
    "0.1",
)
HEADERS = (
    "step,g_loss,d_loss,d_accuracy",
    "step,g_loss,d_loss",
    "g_loss,d_loss,d_accuracy,step",
    "step,step,g_loss,d_loss,d_accuracy",
    "",
    "\ufeffstep,g_loss,d_loss,d_accuracy",
    "step;g_loss;d_loss;d_accuracy",
    'step,"g_loss",d_loss,d_accuracy',
    "step,g_loss,d_loss,d_accuracy,<b>",
    "#step,g_loss,d_loss,d_accuracy",
)
history = st.fixed_dictionaries(
    {
        "header": mostly(HEADERS[0], st.sampled_from(HEADERS)),
        "rows": mostly(60, st.sampled_from([0, 1, 2, 300])),
        "cells": st.lists(st.tuples(st.integers(0, 299), st.integers(0, 5), st.sampled_from(CELLS)), max_size=2),
        "end": mostly("", st.sampled_from(["\n\n", "1,2\n", "1,2,3,4,5\n", '"unclosed', "\x00", "\r\n", "\ud800"])),
        "line": st.sampled_from(["\n", "\n", "\r\n", "\r"]),
        "edits": mostly([], bytes_edits.edits),
        "size": mostly(
            "as it is", st.sampled_from(["100 MB of rows", "100 MB line", "100 MB of commas", "100 MB of empty lines"])
        ),
    }
)


def table_bytes(case):
    """The bytes of a history.csv."""
    rows = [[str(step), "1.5", "0.25", "87.5"] for step in range(case["rows"])]
    for row, column, cell in case["cells"]:
        if row < len(rows) and column < 4:
            rows[row][column] = cell
    lines = [case["header"], *(",".join(row) for row in rows)]
    content = (case["line"].join(lines) + case["line"] + case["end"]).encode("utf-8", "surrogatepass")
    return bytes_edits.apply(content, case["edits"])


def write_large(path, case):
    """Write 100 MB under the header of a case, piece by piece: the memory that is measured is not that of the campaign."""
    with open(path, "wb") as file:
        file.write(case["header"].encode() + b"\n")
        for piece in range(100):
            if case["size"] == "100 MB of rows":
                file.write(b"".join(b"%d,1,2,3\n" % step for step in range(70_000 * piece, 70_000 * (piece + 1))))
            else:
                file.write(
                    {"100 MB line": b"1", "100 MB of commas": b",", "100 MB of empty lines": b"\n"}[case["size"]] * 1_000_000
                )


def run_history(case, folder):
    """`data/model/history.csv` as the report reads and draws it."""
    from gan.pages import charts, tables

    if case["size"] == "as it is":
        (folder / "history.csv").write_bytes(table_bytes(case))
    else:
        write_large(folder / "history.csv", case)
    right = (
        case == {**case, "header": HEADERS[0], "cells": [], "end": "", "line": "\n", "edits": [], "size": "as it is"}
        and case["rows"] > 0
    )
    try:
        table = inputs.read_table("history.csv", columns=tables.HISTORY_COLUMNS)
    except DataError as error:
        if right:
            raise RefusedWrongly(str(error)) from None
        raise
    if not all(np.isfinite(column).all() for column in table.values()):
        raise AcceptedWrongly("numbers that are not finite")
    if case["size"] == "as it is" and not case["edits"]:
        written = {cell for row, column, cell in case["cells"] if row < case["rows"] and column < 4}
        if (
            written & {"nan", "inf", "1e400", "", "0x10", "1,5", '"1\n2"', "x" * 200_000}
            or case["rows"] == 0
            or "step" not in case["header"]
        ):
            raise AcceptedWrongly(f"took {written or case['header']}")
    if len(table["step"]) > 100_000:
        return
    charts.training_curves(table, table["step"][:1].tolist())
    charts.losses_png(table)
    tables.log_lines(table, every_steps=50, published=False)


numbers = st.one_of(
    st.floats(), st.integers(), st.sampled_from([10**400, -(10**400), 1e308, 5e-324, True, None, "1", [], {}, "<b>1</b>"])
)
names = st.sampled_from(["fid", "fid_std", "precision_percent", "recall_percent_std", "classes", *MARKUP]) | st.text(max_size=10)
metrics = st.fixed_dictionaries(
    {
        "metrics": mostly({"fid": 1.5, "fid_std": 0.1}, st.dictionaries(names, numbers, max_size=4) | numbers),
        "floor": mostly(
            {"test": {"fid": 0.2, "fid_std": 0.02}},
            st.dictionaries(names, st.dictionaries(names, numbers, max_size=2) | numbers, max_size=2),
        ),
        "tail": mostly(
            {"tail_mean": {"g_loss": 1.0, "d_loss": 1.0, "d_accuracy_percent": 50.0}},
            st.dictionaries(
                st.just("tail_mean"), st.dictionaries(st.sampled_from(["g_loss", "d_loss", "d_accuracy_percent"]), numbers)
            ),
        ),
        "trajectory": mostly(
            "step,fid,fid_std\n0,5,1\n50,2,1\n",
            st.sampled_from(
                ["step\n0\n", "step,fid\n0,1e308\n50,-1e308\n", "step,fid,fid_std\n0,-1,0\n", "step,<script>\n0,1\n", "fid\n1\n"]
            ),
        ),
        "title": mostly("Digits", st.sampled_from(MARKUP) | st.text(max_size=30)),
        "raw": mostly(
            None,
            st.sampled_from(
                [
                    "",
                    "{",
                    "deep list",
                    "deep object",
                    "NaN",
                    '{"fid": NaN}',
                    '{"fid": 1e999}',
                    '{"fid": ' + "9" * 5000 + "}",
                    "\ufeff{}",
                    '{"fid": 1, "fid": 2}',
                    "100 MB",
                    "100 MB deep",
                    '"\\ud800"',
                    '{"\\ud800": 1}',
                ]
            ),
        ),
        "edits": mostly([], bytes_edits.edits),
    }
)


class _Tags(html.parser.HTMLParser):
    """Counts of a page's tags with their attributes' names."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, tuple(sorted(name for name, _ in attributes))))


HISTORY = "step,g_loss,d_loss,d_accuracy\n" + "".join(f"{step},1.5,0.25,87.5\n" for step in range(60))


def page_of(folder, *, title="Digits", **files):
    """The page that the stage report makes in `folder` of benign files, save those that `files` replaces by path."""
    from stages import report

    section = YAML(typ="safe").load((ROOT / "params.yaml").read_bytes())
    section["report"]["title"] = title
    buffer = io.BytesIO()
    YAML(typ="safe").dump(section, buffer)
    gray = zlib.compress(bytes(85 * 84))
    benign = {
        "params.yaml": buffer.getvalue(),
        "sets/lecture.yaml": (ROOT / "sets/lecture.yaml").read_bytes(),
        "data/model/history.csv": HISTORY.encode(),
        "data/model/metrics.json": b'{"tail_mean": {"g_loss": 1.0, "d_loss": 1.0, "d_accuracy_percent": 50.0}}',
        "data/evaluation/metrics.json": b'{"fid": 1.5, "fid_std": 0.1, "precision_percent": 5.0}',
        "data/evaluation/trajectory.csv": b"step,fid,fid_std,precision_percent\n0,5,1,1\n50,2,1,2\n",
        "data/judge/floor.json": b'{"test": {"fid": 0.2, "fid_std": 0.02}}',
        "data/gallery/explorer.json": b'{"left_out": "too large"}',
        "data/gallery/final.png": _png(84, 84, data=gray),
        "data/gallery/img-0.png": _png(84, 84, data=gray),
    }
    for name, content in (benign | files).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with contextlib.chdir(folder):
        report.main()
    return (folder / "data/report/index.html").read_text(encoding="utf-8")


@functools.cache
def benign_tags():
    """Every tag with its attributes' names that a page of benign files has."""
    with tempfile.TemporaryDirectory() as folder:
        return tuple(_Tags(page_of(Path(folder))).found)


def run_metrics(case, folder):
    """The metrics, the floor, the tail, the trajectory and the title as the report reads and shows them."""
    raw = {
        "100 MB": lambda: "[" + '{"a":[]},' * 11_000_000 + "0]",
        "100 MB deep": lambda: '{"a":' * 20_000_000,
        "deep list": lambda: "[" * 100_000,
        "deep object": lambda: '{"a":' * 100_000,
    }.get(case["raw"], lambda: case["raw"])()
    text = json.dumps(case["metrics"]) if raw is None else raw
    files = {
        "data/evaluation/metrics.json": bytes_edits.apply(text.encode("utf-8", "surrogatepass"), case["edits"]),
        "data/judge/floor.json": json.dumps(case["floor"]).encode(),
        "data/model/metrics.json": json.dumps(case["tail"]).encode(),
        "data/evaluation/trajectory.csv": case["trajectory"].encode(),
    }
    page = page_of(folder, title=case["title"], **files)
    if new := set(_Tags(page).found) - set(benign_tags()):
        raise AcceptedWrongly(f"the page has {sorted(new)}")


def _png(width, height, *, color=0, depth=8, data=b"", chunks=()):
    def chunk(kind, content, crc=None):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content) if crc is None else crc)
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
        + b"".join(chunk(kind.encode(), content) for kind, content in chunks)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


pictures = st.fixed_dictionaries(
    {
        "width": mostly(84, st.sampled_from([0, 1, 83, 9_400, 13_300, 20_000, 50_000, 2**31 - 1, 2**32 - 1])),
        "height": mostly(84, st.sampled_from([0, 1, 85, 9_400, 13_300, 20_000, 50_000, 2**31 - 1])),
        "color": mostly(0, st.sampled_from([2, 3, 4, 6, 7])),
        "depth": mostly(8, st.sampled_from([1, 2, 4, 16, 3])),
        "data": mostly("right", st.sampled_from(["none", "bomb", "short", "junk"])),
        "extra": mostly(None, st.sampled_from(["zTXt bomb", "iTXt bomb", "iCCP bomb", "acTL", "tEXt", "PLTE"])),
        "scale": st.sampled_from([1, 3, 16]),
        "edits": mostly([], bytes_edits.edits),
    }
)


def run_picture(case, folder):
    """`data/gallery/final.png` as the report reads it."""
    from tests.soak.kinds.archives import deflated_zeros

    width, height = case["width"], case["height"]
    size = (width + 1) * height
    small = size < 1_000_000
    bomb = b"\x78\x9c" + deflated_zeros(min(size, 2 << 30)) + bytes(4) if not small or case["data"] == "bomb" else b""
    data = {
        "right": zlib.compress(bytes(size)) if small else bomb,
        "none": b"",
        "bomb": bomb,
        "short": zlib.compress(bytes(size // 2 if small else 9)),
        "junk": b"junk",
    }[case["data"]]
    long = b"name\x00\x00" + b"\x78\x9c" + deflated_zeros(1 << 30)
    extra = {
        None: [],
        "zTXt bomb": [("zTXt", long)],
        "iTXt bomb": [("iTXt", b"name\x00\x01\x00\x00\x00" + long[6:])],
        "iCCP bomb": [("iCCP", long)],
        "acTL": [("acTL", struct.pack(">II", 2**31 - 1, 0))],
        "tEXt": [("tEXt", b"<script>\x00alert(1)")],
        "PLTE": [("PLTE", bytes(7))],
    }[case["extra"]]
    (folder / "final.png").write_bytes(
        bytes_edits.apply(_png(width, height, color=case["color"], depth=case["depth"], data=data, chunks=extra), case["edits"])
    )
    right = (width, height, case["color"], case["depth"], case["data"], case["extra"], case["edits"]) == (
        84,
        84,
        0,
        8,
        "right",
        None,
        [],
    )
    try:
        inputs.read_picture("final.png", scale=case["scale"])
    except DataError as error:
        if right:
            raise RefusedWrongly(str(error)) from None
        raise


titles = st.sampled_from(MARKUP) | st.text(max_size=250) | st.none() | st.integers() | st.lists(st.text())


def run_title(case, folder):
    """`report.title`: text of up to 200 characters, whatever stands in it, is shown as that text."""
    try:
        page = page_of(folder, title=case)
    except ParamsError:
        if isinstance(case, str) and 1 <= len(case) <= 200 and case.isprintable():
            raise RefusedWrongly("a title") from None
        raise
    if len(_Tags(page).found) != len(benign_tags()):
        raise AcceptedWrongly("a title that is markup")


def _warm_up():
    import gan.pages.charts
    import gan.pages.report  # noqa: F401

    benign_tags()


KINDS = {
    "histories": Kind(history, run_history, _warm_up, share=1.5),
    "metrics": Kind(metrics, run_metrics, _warm_up, share=2),
    "pictures": Kind(pictures, run_picture, _warm_up, share=2),
    "titles": Kind(titles, run_title, _warm_up, share=0.5),
}
