"""Reads data/model, data/evaluation, data/judge/floor.json, data/gallery, params.yaml, sets/lecture.yaml. Writes data/report/.

index.html is one page that shows the run and needs nothing else: no network, no file beside it. Without an evaluation it says
so. losses.png is the chart of the losses alone, for places that show pictures.
"""

from pathlib import Path

from gan.errors import ParamsError
from gan.files import replacing_folder
from gan.pages.params import GalleryParams, ReportParams
from gan.params import PARAMS, read_file, read_section
from gan.training.params import TrainParams
from stages.command import run_as_command

HISTORY = Path("data/model/history.csv")
TRAINING_METRICS = Path("data/model/metrics.json")
METRICS = Path("data/evaluation/metrics.json")
TRAJECTORY = Path("data/evaluation/trajectory.csv")
FLOOR = Path("data/judge/floor.json")
GALLERY = Path("data/gallery")
OUT = Path("data/report")
LECTURE = Path("sets/lecture.yaml")  # beside whose parameters the published log is shown
SHOWN_SECTIONS = ("train", "judge", "evaluate", "gallery")
FLOOR_NAMES = {"test": "Real test images", "train_halves": "Real, half against half"}


def main():
    params = read_section(PARAMS, "report", ReportParams)
    train = read_section(PARAMS, "train", TrainParams)
    lecture_params = read_section(LECTURE, "train", TrainParams)
    layout = read_section(PARAMS, "gallery", GalleryParams)
    sections = shown_sections(read_file(PARAMS))

    from gan.lecture import is_published, published_tail_mean
    from gan.pages import charts, inputs, report, tables

    history = inputs.read_table(HISTORY, columns=tables.HISTORY_COLUMNS)
    tail_mean = inputs.read_tail_mean(TRAINING_METRICS)
    metrics = inputs.read_metrics(METRICS) if METRICS.exists() else {}
    floor = inputs.read_floor(FLOOR) if FLOOR.exists() else {}
    explorer = inputs.read_explorer(GALLERY, scale=layout.scale)
    trajectory = inputs.read_table(TRAJECTORY, columns=["step"]) if TRAJECTORY.exists() else {}
    published = is_published(train.model_dump(), lecture_params.model_dump())
    taken = inputs.snapshot_paths(GALLERY)
    shown = inputs.thinned(taken, most=params.most_snapshots)
    snapshots = [{"step": step, "uri": inputs.read_picture(path, scale=layout.scale)} for step, path in shown]
    steps = [snapshot["step"] for snapshot in snapshots]
    page = report.render(
        title=params.title,
        step_count=len(history["step"]),
        tiles=tables.tiles(tail_mean, metrics, floor, published=published),
        final=inputs.read_picture(GALLERY / "final.png", scale=layout.final_scale),
        explorer=explorer,
        snapshots=snapshots,
        snapshots_taken=len(taken),
        frame_milliseconds=layout.frame_milliseconds,
        evolution=tables.evolution(steps, charts.training_values(history, steps), trajectory),
        training_curves=charts.training_curves(history, steps),
        log_every_steps=train.log_every_steps,
        log_lines=tables.log_lines(history, every_steps=train.log_every_steps, published=published),
        tail_mean=tail_mean,
        published=published,
        published_tail_mean=published_tail_mean(),
        quality_rows=tables.quality_rows(metrics, floor),
        floor_names=[FLOOR_NAMES.get(name, name.replace("_", " ")) for name in floor],
        quality_curves=charts.quality_curves(trajectory, floor, steps),
        parameters={name: tables.flatten(section) for name, section in sections.items()},
    )
    with replacing_folder(OUT) as folder:
        (folder / "index.html").write_text(page, encoding="utf-8")
        (folder / "losses.png").write_bytes(charts.losses_png(history))


def shown_sections(content):
    """Those of SHOWN_SECTIONS that the parameters file has."""
    shown = {name: content[name] for name in SHOWN_SECTIONS if name in content}
    for name, section in shown.items():
        if not isinstance(section, dict):
            raise ParamsError(f"{PARAMS}: {name} = {section!r}: expected a section with keys")
    return shown


if __name__ == "__main__":
    run_as_command(main)
