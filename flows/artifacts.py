"""What a run shows in Prefect's UI: pictures and metrics beside the previous version's, curves, progress, parameters, report.

Pictures are `data:` URIs of small PNGs, since the UI's server does not serve files.
"""

import base64
import contextlib
import contextvars
import functools
import io
import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from prefect import get_client
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.actions import ArtifactUpdate

from flows.metrics import compare, merged
from gan.params import PARAMS

_CELL = 256  # pixels of a picture's longer side in the contact sheet
_COMPARED_CELL = 420  # and beside the previous version's
_UPDATE_SECONDS = 3
_SAMPLES = "live/*/samples.png"  # in the trainer's scratch folder: what each of the newest runs shows of itself


@dataclass(frozen=True)
class Previous:
    """What a run is shown beside."""

    tag: str  # the previous version's
    metrics: dict  # its flat metrics
    spreads: tuple[dict, dict]  # metric -> its Spread over seeds, where studies have measured it, of this run and of that version
    same_ruler: bool  # whether one judge has measured both
    picture: bytes | None  # its file of `main_picture`, or None where it could not be had


def publish(tree, settings, *, metrics_files, previous, tag):
    """Create the artifacts of a finished run from the files in the folder `tree`; what a partial run has not made is left out.

    previous: a Previous, or None where there is none.
    tag: this run's version, or None where it was not recorded.
    """
    _publish_pictures(tree, settings)
    if previous is not None and previous.picture is not None:
        _publish_comparison(tree, settings, previous)
    contents = {path: (tree / path).read_bytes() for path in metrics_files if (tree / path).exists()}
    if metrics := merged(contents):
        beside = {"measured": previous.spreads, "same_ruler": previous.same_ruler} if previous else {}
        compared = compare(metrics, previous.metrics if previous else {}, settings.gate, **beside)
        create_table_artifact(table=metrics_table(compared), key="metrics", description=_about(compared, previous, settings.gate))
    get = f"`git checkout {tag} && dvc checkout` gives this run's files back." if tag else "The files are in the working tree."
    create_markdown_artifact(f"[{settings.report}]({settings.report})\n\n{get}", key="report", description="the report")
    params = (tree / PARAMS).read_text(encoding="utf-8")
    create_markdown_artifact(f"```yaml\n{params}\n```", key="parameters", description=f"{PARAMS} of this run")


def metrics_table(compared):
    """A row for each ComparedMetric: metric, value, noise, previous, change, and whether that is beyond noise: yes, no or –."""
    return [
        {
            "metric": one.metric,
            "value": one.value,
            "noise": one.noise,
            "previous": one.previous,
            "change": "" if one.change is None else f"{one.change:+.4g}",
            "beyond noise": {None: "–", True: "yes", False: "no"}[one.beyond_noise],
        }
        for one in compared
    ]


def main_picture(tree, settings):
    """The path, relative to the folder `tree`, of the first of the run's pictures: runs are compared by it. None without any."""
    found = _pictures(tree, settings)
    return found[0].relative_to(tree).as_posix() if found else None


def _about(compared, previous, gate):
    if previous is None:
        return "no previous version"
    counted = (
        f"beyond noise: {gate.metric} by more than {gate.margin:g} standard deviations of a difference, any other as rarely by "
        "chance; that is by drawing another sample"
    )
    seeds = [one.metric for one in compared if one.seeds]
    return f"beside {previous.tag}; {counted}" + (f" and, for {', '.join(seeds)}, by another seed of training" if seeds else "")


def _pictures(tree, settings):
    return [path for pattern in settings.pictures for path in sorted(tree.glob(pattern))]


def _publish_pictures(tree, settings):
    if pictures := _pictures(tree, settings):
        names = ", ".join(str(path.relative_to(tree)) for path in pictures)
        create_image_artifact(image_url=_data_uri(contact_sheet(pictures)), key="gallery", description=names)
    curves = tree / settings.curves
    if curves.exists():
        create_image_artifact(image_url=_data_uri(curves.read_bytes()), key="loss-curves", description=settings.curves)


def _publish_comparison(tree, settings, previous):
    path = main_picture(tree, settings)
    sheet = beside_previous((tree / path).read_bytes(), previous.picture)
    description = (
        f"{path}: {previous.tag}, this run, and the difference; `gan versions compare {previous.tag} . --page` shows more"
    )
    create_image_artifact(image_url=_data_uri(sheet), key="beside-previous", description=description)


def beside_previous(content, previous):
    """A PNG of two PNGs, bytes: the previous one, this one and, where both have the same shape, |this - previous|."""
    from PIL import Image, ImageChops

    images = [Image.open(io.BytesIO(one)).convert("RGB") for one in (previous, content)]
    if images[0].size == images[1].size:
        images.append(ImageChops.difference(*images))
    return _png(_in_cells(images, _COMPARED_CELL))


def contact_sheet(paths):
    """PNG bytes of the images at `paths` side by side, at most four in a row."""
    from PIL import Image

    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(image.convert("RGB"))
    return _png(_in_cells(images, _CELL))


def _in_cells(images, side):
    """The images on white, each within a square of `side` pixels, at most four in a row."""
    from PIL import Image

    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * side, rows * side), "white")
    for number, image in enumerate(images):
        image.thumbnail((side, side))
        sheet.paste(image, (number % columns * side, number // columns * side))
    return sheet


def _png(image):
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    return png.getvalue()


class Progress:
    """The training's progress and its newest samples, as two artifacts.

    A thread updates them every few seconds: a server out of reach delays no training. scratch: the trainer's scratch folder.
    """

    def __init__(self, scratch):
        self._samples = NewestSamples(Path(scratch))
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

    def _work(self, about):
        artifact = None
        description = f"{about}; the newest samples are the artifact `newest-samples`"
        while (percent := self._percent.get()) is not None:
            with contextlib.suppress(Exception):
                if artifact is None:
                    artifact = create_progress_artifact(percent, key="progress", description=description)
                else:
                    update_progress_artifact(artifact, progress=percent)
            with contextlib.suppress(Exception):
                self._samples.publish()
        with contextlib.suppress(Exception):  # the last ones come a moment after the last step's line
            self._samples.publish()


class NewestSamples:
    """The samples that training has drawn last, as an image artifact. Files from before this object was made are not shown."""

    def __init__(self, scratch):
        self._scratch = scratch
        self._shown_until = time.time_ns()  # the time of the file that is shown
        self._artifact = None

    def publish(self):
        """Create the artifact, or change its picture, if there is a newer one. Raises what Prefect and the file system raise."""
        times = {path: path.stat().st_mtime_ns for path in self._scratch.glob(_SAMPLES)}
        newest = max(times, key=times.get, default=None)
        if newest is None or times[newest] <= self._shown_until:
            return
        picture = _data_uri(newest.read_bytes())
        if self._artifact is None:
            self._artifact = create_image_artifact(
                image_url=picture, key="newest-samples", description="the newest samples; `make live` shows more"
            )
        else:
            get_client(sync_client=True).update_artifact(artifact_id=self._artifact, artifact=ArtifactUpdate(data=picture))
        self._shown_until = times[newest]


def _data_uri(png):
    return "data:image/png;base64," + base64.b64encode(png).decode()
