"""Reads data/model, data/evaluation, data/judge/floor.json, data/gallery and params.yaml. Writes data/report/index.html.

One page that shows the run and needs nothing else: no network, no file beside it. Without an evaluation it says so.
"""

from pathlib import Path

from pydantic import Field

from gan.errors import ParamsError
from gan.files import write_bytes
from gan.gallery_params import GalleryParams
from gan.params import Section, read_file, read_section
from gan.train_params import TrainParams
from stages.command import PARAMS, run

HISTORY = Path("data/model/history.csv")
TRAINING_METRICS = Path("data/model/metrics.json")
METRICS = Path("data/evaluation/metrics.json")
TRAJECTORY = Path("data/evaluation/trajectory.csv")
FLOOR = Path("data/judge/floor.json")
GALLERY = Path("data/gallery")
PAGE = Path("data/report/index.html")
SHOWN_SECTIONS = ("train", "judge", "evaluate", "gallery")
FLOOR_NAMES = {"test": "Real test images", "train_halves": "Real, half against half"}


class ReportParams(Section):
    """Section `report` of the parameters file."""

    title: str = Field(min_length=1, max_length=200)


def main():
    params = read_section(PARAMS, "report", ReportParams)
    train = read_section(PARAMS, "train", TrainParams)
    layout = read_section(PARAMS, "gallery", GalleryParams)
    sections = shown_sections(read_file(PARAMS))
    from gan import report

    history = report.read_table(HISTORY, columns=report.HISTORY_COLUMNS)
    tail_mean = report.read_tail_mean(TRAINING_METRICS)
    metrics = report.read_metrics(METRICS) if METRICS.exists() else {}
    floor = report.read_floor(FLOOR) if FLOOR.exists() else {}
    trajectory = report.read_table(TRAJECTORY, columns=["step"]) if TRAJECTORY.exists() else {}
    published = report.is_published(train.model_dump())
    page = report.render(
        title=params.title,
        step_count=len(history["step"]),
        tiles=report.tiles(tail_mean, metrics, floor, published=published),
        final=report.read_picture(GALLERY / "final.png", scale=layout.final_scale),
        snapshots=[
            {"step": step, "uri": report.read_picture(path, scale=layout.scale)} for step, path in report.snapshot_paths(GALLERY)
        ],
        frame_milliseconds=layout.frame_milliseconds,
        training_curves=report.training_curves(history),
        log_every_steps=train.log_every_steps,
        log_lines=report.log_lines(history, every_steps=train.log_every_steps, published=published),
        tail_mean=tail_mean,
        published=published,
        published_tail_mean=report.published_tail_mean(),
        quality_rows=report.quality_rows(metrics, floor),
        floor_names=[FLOOR_NAMES.get(name, name.replace("_", " ")) for name in floor],
        quality_curves=report.quality_curves(trajectory, floor),
        parameters={name: report.flatten(section) for name, section in sections.items()},
    )
    write_bytes(PAGE, page.encode())


def shown_sections(content):
    """Those of SHOWN_SECTIONS that the parameters file has."""
    shown = {name: content[name] for name in SHOWN_SECTIONS if name in content}
    for name, section in shown.items():
        if not isinstance(section, dict):
            raise ParamsError(f"{PARAMS}: {name} = {section!r}: expected a section with keys")
    return shown


if __name__ == "__main__":
    run(main)
