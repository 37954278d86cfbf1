"""Reads data/model/ (snapshots.npz, generator.keras), data/judge/, training images. Writes data/gallery/: what people look at.

img-<step>.png for each snapshot, final.png from the trained generator, evolution.png, an animation of the run. explorer.json
holds the generator and the judge as numbers for the report's page; plane.png and direction-<n>.png are its still pictures.
"""

from pathlib import Path

from gan.files import replacing_folder, write_json
from gan.pages.params import GalleryParams
from gan.params import PARAMS, read_section
from stages.command import run_as_command

SNAPSHOTS = Path("data/model/snapshots.npz")
GENERATOR = Path("data/model/generator.keras")
JUDGE = Path("data/judge/judge.keras")
REFERENCE = Path("data/judge/reference.npz")
TRAINING_IMAGES = Path("data/normalized/train_images.npy")
GALLERY = Path("data/gallery")


def main():
    params = read_section(PARAMS, "gallery", GalleryParams)

    from gan.arrays import load_pixels
    from gan.images import enlarge
    from gan.keras_files import load_model
    from gan.pages import pictures
    from gan.runtime import start_tensorflow

    steps, snapshots = pictures.read_snapshots(SNAPSHOTS)
    training_pixels = load_pixels(TRAINING_IMAGES)
    start_tensorflow(params.threads)

    from gan.pages import explorer

    generator = load_model(GENERATOR)
    thresholds = explorer.read_copy_thresholds(REFERENCE)
    explored = explorer.build(generator, load_model(JUDGE), training_pixels, thresholds, seed=params.seed)
    final = pictures.sample(generator, rows=params.final_rows, columns=params.final_columns, seed=params.seed)
    grids = pictures.snapshot_grids(snapshots, columns=params.columns, scale=params.scale)
    with replacing_folder(GALLERY) as folder:
        for step, pixels in zip(steps, grids, strict=True):
            pictures.write_png(folder / f"img-{step}.png", pixels)
        pictures.write_png(folder / "final.png", pictures.grid(final, columns=params.final_columns, scale=params.final_scale))
        for name, pixels in explored.pictures.items():
            pictures.write_png(folder / f"{name}.png", enlarge(pixels, params.scale))
        write_json(folder / "explorer.json", explored.content)
        pictures.write_animation(
            folder / "evolution.png",
            grids,
            steps,
            frame_milliseconds=params.frame_milliseconds,
            last_milliseconds=params.last_frame_milliseconds,
        )


if __name__ == "__main__":
    run_as_command(main)
