"""What a run shows in Prefect's UI: pictures, metrics beside the previous version's, loss curves, progress, parameters, report.

Pictures are `data:` URIs of small PNGs, since the UI's server does not serve files.
"""

import base64
import contextlib
import contextvars
import csv
import functools
import io
import json
import queue
import threading
import time
from pathlib import Path

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.gate import compare, flatten
from gan.errors import DataError

_CELL = 256  # pixels of a picture's longer side in the contact sheet
_COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2")
_UPDATE_SECONDS = 3


def publish(tree, settings, *, metrics_files, previous, previous_tag, tag):
    """Create the artifacts of a finished run from the files in `tree`; what a partial run has not made is left out.

    previous: the previous version's flat metrics, {} where there is none.
    tag: this run's version, or None where it was not recorded.
    """
    tree = Path(tree)
    pictures = [path for pattern in settings.pictures for path in sorted(tree.glob(pattern))]
    if pictures:
        names = ", ".join(str(path.relative_to(tree)) for path in pictures)
        create_image_artifact(image_url=_data_uri(contact_sheet(pictures)), key="gallery", description=names)
    curves = tree / settings.curves.file
    if curves.exists():
        picture = draw_curves(curves, settings.curves.x, settings.curves.columns)
        create_image_artifact(image_url=_data_uri(picture), key="loss-curves", description=settings.curves.file)
    metrics = {}
    for path in metrics_files:
        if (tree / path).exists():
            metrics |= flatten(json.loads((tree / path).read_bytes()))
    if metrics:
        create_table_artifact(
            table=compare(metrics, previous), key="metrics", description=f"beside {previous_tag or 'no previous version'}"
        )
    get = f"`git checkout {tag} && dvc checkout` gives this run's files back." if tag else "The files are in the working tree."
    create_markdown_artifact(f"[{settings.report}]({settings.report})\n\n{get}", key="report", description="the report")
    params = (tree / "params.yaml").read_text(encoding="utf-8")
    create_markdown_artifact(f"```yaml\n{params}\n```", key="parameters", description="params.yaml of this run")


def contact_sheet(paths):
    """PNG bytes of the images at `paths` side by side, at most four in a row."""
    from PIL import Image

    cells = []
    for path in paths:
        with Image.open(path) as image:
            image = image.convert("RGB")
            image.thumbnail((_CELL, _CELL))
            cells.append(image)
    columns = min(4, len(cells))
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * _CELL, rows * _CELL), "white")
    for number, cell in enumerate(cells):
        sheet.paste(cell, (number % columns * _CELL, number // columns * _CELL))
    return _png(sheet)


def draw_curves(file, x, columns):
    """PNG bytes of a small line chart of `columns` over `x` of a CSV file with a header."""
    from PIL import Image, ImageDraw

    with open(file, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    missing = [name for name in (x, *columns) if not rows or name not in rows[0]]
    if missing:
        raise DataError(f"{file}: no column {missing[0]!r} (see curves in params.yaml)")
    xs = [float(row[x]) for row in rows]
    ys = {name: [float(row[name]) for row in rows] for name in columns}
    low, high = min(map(min, ys.values())), max(map(max, ys.values()))
    width, height, margin = 640, 320, 30
    chart = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(chart)
    draw.rectangle((margin, margin, width - margin, height - margin), outline="#bbbbbb")

    def point(at, value):
        right = (at - xs[0]) / ((xs[-1] - xs[0]) or 1)
        up = (value - low) / ((high - low) or 1)
        return margin + right * (width - 2 * margin), height - margin - up * (height - 2 * margin)

    for number, (name, values) in enumerate(ys.items()):
        points = [point(at, value) for at, value in zip(xs, values, strict=True)]
        draw.line(points if len(points) > 1 else points * 2, fill=_COLORS[number])
        draw.text((margin + 100 * number, 10), name, fill=_COLORS[number])
    draw.text((margin, height - margin + 8), f"{x} {xs[0]:g} to {xs[-1]:g}; values {low:.4g} to {high:.4g}", fill="#555555")
    return _png(chart)


class Progress:
    """The training's progress as an artifact, updated every few seconds by a thread: a server out of reach delays no training."""

    def __init__(self):
        self._percent = queue.SimpleQueue()
        self._thread = None
        self._next = 0.0

    def show(self, step, steps):
        """Say that `step` of `steps` is done."""
        if time.monotonic() < self._next and step < steps:
            return
        self._next = time.monotonic() + _UPDATE_SECONDS
        self._percent.put(min(100.0, 100.0 * step / steps))
        if self._thread is None:  # in a copy of the context, which is how Prefect knows the run
            work = functools.partial(contextvars.copy_context().run, self._work, f"{steps} training steps")
            self._thread = threading.Thread(target=work, daemon=True)
            self._thread.start()

    def close(self):
        """Nothing more comes; wait a moment for the last update."""
        if self._thread is not None:
            self._percent.put(None)
            self._thread.join(timeout=_UPDATE_SECONDS)

    def _work(self, description):
        artifact = None
        while (percent := self._percent.get()) is not None:
            with contextlib.suppress(Exception):
                if artifact is None:
                    artifact = create_progress_artifact(percent, key="progress", description=description)
                else:
                    update_progress_artifact(artifact, progress=percent)


def _png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _data_uri(png):
    return "data:image/png;base64," + base64.b64encode(png).decode()
