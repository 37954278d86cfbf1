"""`gan draw`: the digits that are asked for, by the trained generator or by that of any version."""

import tempfile
from pathlib import Path

import click

from gan.errors import DataError, UserError
from gan.files import replacing
from gan.images import IMAGE_SHAPE, enlarge

MOST_PIXELS = 50_000_000
GENERATOR = Path("data/model/generator.keras")


@click.command()
@click.argument("digits")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The PNG to write.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another number, another hand.")
@click.option("--scale", type=click.IntRange(1, 64), default=4, show_default=True, help="Pixels a pixel.")
@click.option(
    "--version",
    metavar="REVISION",
    help="The run whose model to take: a version, tag, branch, commit or experiment.",
)
def draw(digits, out, seed, scale, version):
    """Draw DIGITS, such as 2026, with the trained generator, or with that of any version, as a PNG.

    Needs a class-conditional model, such as the set conditional-60s gives. Spaces are allowed.
    """
    if out.suffix != ".png":
        raise click.UsageError(f"expected a file that ends in .png, got {out}")
    if len(digits) * (IMAGE_SHAPE[0] * scale) ** 2 > MOST_PIXELS:
        raise UserError(f"expected a picture of at most {MOST_PIXELS:,} pixels; draw fewer digits or lower --scale")
    with tempfile.TemporaryDirectory() as folder:
        path = GENERATOR if version is None else _generator_of(version, folder)
        if not path.exists():  # before TensorFlow's seconds
            raise DataError(f"{path}: no such file; `dvc repro train` makes it")
        from gan.runtime import start_tensorflow

        start_tensorflow(1)
        from gan.keras_files import load_model

        generator = load_model(path)
    from PIL import Image

    from gan.pages.digits import draw_digits

    pixels = enlarge(draw_digits(generator, digits, seed=seed), scale)
    with replacing(out) as temporary:
        Image.fromarray(pixels).save(temporary)


def _generator_of(name, folder):
    """The path of the generator of the revision `name`, fetched into `folder` where it is not the working tree's."""
    from flows import revisions
    from flows.git import Repository

    return revisions.find(Repository.around(Path.cwd()), name).fetch(str(GENERATOR), folder)
