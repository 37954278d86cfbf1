"""Reads data/model/snapshots.npz and data/model/generator.keras. Writes data/gallery/: what people look at.

img-<step>.png for each snapshot, final.png from the trained generator, evolution.png, an animation of the run.
"""

from pathlib import Path

from gan.files import replacing_folder
from gan.pages.params import GalleryParams
from gan.params import PARAMS, read_section
from stages.command import run_as_command

SNAPSHOTS = Path("data/model/snapshots.npz")
GENERATOR = Path("data/model/generator.keras")
GALLERY = Path("data/gallery")


def main():
    params = read_section(PARAMS, "gallery", GalleryParams)

    from gan.keras_files import load_model
    from gan.pages import pictures
    from gan.runtime import start_tensorflow

    steps, snapshots = pictures.read_snapshots(SNAPSHOTS)
    start_tensorflow(params.threads)
    final = pictures.sample(load_model(GENERATOR), rows=params.final_rows, columns=params.final_columns, seed=params.seed)
    grids = [pictures.grid(images, columns=params.columns, scale=params.scale) for images in snapshots]
    with replacing_folder(GALLERY) as folder:
        for step, pixels in zip(steps, grids, strict=True):
            pictures.write_png(folder / f"img-{step}.png", pixels)
        pictures.write_png(folder / "final.png", pictures.grid(final, columns=params.final_columns, scale=params.final_scale))
        pictures.write_animation(
            folder / "evolution.png",
            grids,
            steps,
            frame_milliseconds=params.frame_milliseconds,
            last_milliseconds=params.last_frame_milliseconds,
        )


if __name__ == "__main__":
    run_as_command(main)
