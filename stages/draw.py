"""Draws the digits that are asked for with the trained generator, or with that of any version, as a PNG.

Needs a class-conditional model, such as the set conditional-60s gives.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from gan.errors import DataError, UserError
from gan.files import replacing

GENERATOR = Path("data/model/generator.keras")


def main():
    parser = argparse.ArgumentParser(prog="python -m stages.draw", description=__doc__)
    parser.add_argument("digits", help="what to draw, such as 2026; spaces are allowed")
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--seed", type=int, default=0, help="another number, another hand (default: %(default)s)")
    parser.add_argument("--scale", type=int, default=4, help="pixels of the picture for one of the digit (default: %(default)s)")
    parser.add_argument("--version", metavar="REVISION", help="a tag, branch or commit whose model to take instead of data/model")
    arguments = parser.parse_args()
    if arguments.scale < 1 or arguments.seed < 0:
        parser.error("expected --scale of at least 1 and --seed of at least 0")
    if arguments.out.suffix != ".png":
        parser.error(f"expected a file that ends in .png, got {arguments.out}")
    try:
        draw(arguments)
    except (UserError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")


def draw(arguments):
    """Do what the command line's `arguments` ask for."""
    with tempfile.TemporaryDirectory() as folder:
        path = GENERATOR if arguments.version is None else fetch_generator(arguments.version, Path(folder))
        if not path.exists():  # before TensorFlow's seconds
            raise DataError(f"{path}: no such file; `dvc repro train` makes it")
        from gan.runtime import start_tensorflow

        start_tensorflow(1)
        from gan.saving import load_model

        generator = load_model(path)
    from PIL import Image

    from gan.drawing import draw_digits

    pixels = draw_digits(generator, arguments.digits, seed=arguments.seed)
    pixels = pixels.repeat(arguments.scale, axis=0).repeat(arguments.scale, axis=1)
    with replacing(arguments.out) as temporary:
        Image.fromarray(pixels).save(temporary)


def fetch_generator(revision, folder):
    """Copy the generator of `revision` from DVC's cache, or its remote, into `folder`; returns the path."""
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError

    path = folder / GENERATOR.name
    try:
        path.write_bytes(dvc.api.read(str(GENERATOR), repo=".", rev=revision, mode="rb"))
    except (DvcException, SCMError, OSError) as error:
        raise UserError(f"no {GENERATOR} of {revision!r}: {' '.join(str(error).split())}") from None
    return path


if __name__ == "__main__":
    main()
