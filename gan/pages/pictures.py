"""What people look at: a grid of digits for each snapshot, a larger one of the trained generator, an animation of the run.

The animation is an APNG. It keeps all 256 grays exactly, as a GIF would, in a quarter of the bytes at three pixels a pixel
(deflate packs repeated pixels better than LZW), and every browser since 2020 plays it.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gan.arrays import load_archive
from gan.errors import DataError, UserError
from gan.generators import inputs_of
from gan.images import CLASSES, IMAGE_SHAPE, enlarge, tile, to_uint8

_CAPTION_HEIGHT = 0.09  # of the width of the grid: a line of text that can be read wherever the digits can
_CAPTION_GRAY = 255
_SNAPSHOT_IMAGES = 100  # training draws 16
_MOST_PIXELS = 200_000_000  # of all frames of an animation, which are in memory twice


def read_snapshots(path):
    """Read a run's snapshots: (steps int64 [k], strictly increasing from 0 or more; images uint8 [k, n, 28, 28, 1], n <= 100).

    Raises DataError when the file is missing, damaged, or holds anything else.
    """
    archive = load_archive(path, "archive of snapshots")
    if archive.keys() != {"steps", "images"}:
        raise DataError(f"{path}: not a readable archive of snapshots: expected steps and images, got {', '.join(archive)}")
    steps, images = archive["steps"], archive["images"]
    if steps.dtype != np.int64 or steps.ndim != 1 or len(steps) == 0:
        raise DataError(f"{path}: expected steps int64 [k] with k > 0, got {steps.dtype} {list(steps.shape)}")
    if images.dtype != np.uint8 or images.ndim != 5 or images.shape[2:] != IMAGE_SHAPE or images.size == 0:
        raise DataError(f"{path}: expected images uint8 [k, n, 28, 28, 1], got {images.dtype} {list(images.shape)}")
    if images.shape[1] > _SNAPSHOT_IMAGES:
        raise DataError(f"{path}: expected at most {_SNAPSHOT_IMAGES} images a snapshot, got {images.shape[1]}")
    if len(steps) != len(images):
        raise DataError(f"{path}: expected a step for each of {len(images)} snapshots, got {len(steps)}")
    wrong = np.flatnonzero(np.append(steps[0] < 0, steps[1:] <= steps[:-1]))  # a difference could overflow
    if wrong.size:
        around = steps[max(0, wrong[0] - 2) : wrong[0] + 1].tolist()
        raise DataError(f"{path}: expected steps that increase from 0 or more, got {around}")
    return steps, images


def snapshot_grids(snapshots, *, columns, scale):
    """The grid of each of the snapshots uint8 [k, n, h, w, 1], at most as many columns wide as it has images.

    Raises UserError where all of them together have more pixels than an animation can hold.
    """
    count, images, height, width, _ = snapshots.shape
    columns = min(columns, images)
    pixels = count * -(-images // columns) * height * columns * width * scale**2
    if pixels > _MOST_PIXELS:
        raise UserError(
            f"gallery.columns = {columns} and gallery.scale = {scale} give {count} snapshots {pixels:,} pixels, more than "
            f"{_MOST_PIXELS:,}; lower gallery.scale, or raise train.log_every_steps"
        )
    return [grid(one, columns=columns, scale=scale) for one in snapshots]


def grid(images, *, columns, scale):
    """Tile images uint8 [n, h, w, 1] and make each pixel a square of `scale`: uint8 [rows * h * scale, columns * w * scale]."""
    return enlarge(tile(images, columns=columns), scale)


def write_png(path, pixels):
    """Write gray pixels uint8 [h, w] as a PNG that holds nothing else."""
    Image.fromarray(pixels).save(path, "PNG")


def write_animation(path, grids, steps, *, frame_milliseconds, last_milliseconds):
    """Write grids uint8 [h, w], one a step, as an endless APNG, the step written below each; the last frame stays longer."""
    frames = [_with_caption(pixels, f"step {step}") for pixels, step in zip(grids, steps, strict=True)]
    durations = [frame_milliseconds] * (len(frames) - 1) + [last_milliseconds]
    frames[0].save(path, "PNG", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def sample(generator, *, rows, columns, seed):
    """Draw a grid's images from a generator: uint8 [n, h, w, 1].

    A generator with an input named "labels" (int32 [n]) gives a row for each of the ten digits, whatever `rows` says; any other
    gives `rows` rows. Latents are standard normal, from `seed` alone. Raises DataError for inputs or images of another kind.
    """
    from gan.products import function_of

    inputs = inputs_of(generator)
    count = (CLASSES if inputs.conditional else rows) * columns
    latents = np.random.default_rng(seed).standard_normal((count, inputs.latent_dim), np.float32)
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), columns) if inputs.conditional else None
    images = np.asarray(function_of(generator)(inputs.arrange(latents, labels)))
    if images.ndim != 4 or images.shape[-1] != 1 or not np.isfinite(images).all():
        raise DataError(f"expected finite images [n, h, w, 1] from the generator, got {images.dtype} {list(images.shape)}")
    if np.abs(images).max() > 1:  # else they would be clipped
        raise DataError(f"expected images in [-1, 1] from the generator, got {images.min()} to {images.max()}")
    return to_uint8(images)


def _with_caption(pixels, text):
    height, width = pixels.shape
    band = max(12, round(width * _CAPTION_HEIGHT))
    frame = Image.new("L", (width, height + band))
    frame.paste(Image.fromarray(pixels))
    # the font that comes with Pillow: one from the system would make the bytes depend on the machine
    font = ImageFont.load_default(band * 0.7)
    ImageDraw.Draw(frame).text((band * 0.3, height + band / 2), text, fill=_CAPTION_GRAY, font=font, anchor="lm")
    return frame
