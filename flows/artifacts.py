"""What a run shows in Prefect's UI: pictures, metrics beside the previous version's, loss curves, progress, parameters, report.

Pictures are `data:` URIs of small PNGs, since the UI's server does not serve files.
"""

import base64
import contextlib
import contextvars
import functools
import io
import json
import queue
import threading
import time

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.metrics import compare, flatten
from gan.params import PARAMS

_CELL = 256  # pixels of a picture's longer side in the contact sheet
_UPDATE_SECONDS = 3


def publish(tree, settings, *, metrics_files, previous, previous_tag, tag):
    """Create the artifacts of a finished run from the files in the folder `tree`; what a partial run has not made is left out.

    previous: the previous version's flat metrics, {} where there is none.
    tag: this run's version, or None where it was not recorded.
    """
    _publish_pictures(tree, settings)
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
    params = (tree / PARAMS).read_text(encoding="utf-8")
    create_markdown_artifact(f"```yaml\n{params}\n```", key="parameters", description=f"{PARAMS} of this run")


def _publish_pictures(tree, settings):
    pictures = [path for pattern in settings.pictures for path in sorted(tree.glob(pattern))]
    if pictures:
        names = ", ".join(str(path.relative_to(tree)) for path in pictures)
        create_image_artifact(image_url=_data_uri(contact_sheet(pictures)), key="gallery", description=names)
    curves = tree / settings.curves
    if curves.exists():
        create_image_artifact(image_url=_data_uri(curves.read_bytes()), key="loss-curves", description=settings.curves)


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
    png = io.BytesIO()
    sheet.save(png, "PNG", optimize=True)
    return png.getvalue()


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


def _data_uri(png):
    return "data:image/png;base64," + base64.b64encode(png).decode()
