"""Drawing on request: by the library, and as a command from the trained model and from an older version's tag."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan.errors import DataError, UserError
from tests.helpers.program import gan_here

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("tensorflow")


def make_generator(seed, *, conditional=True):
    from gan.training.networks import build_generator

    return build_generator(latent_dim=4, units=[8], leaky_slope=0.2, seed=seed, conditional=conditional)


def test_a_digit_is_the_generators_with_its_label(tensorflow):
    from gan.images import to_uint8
    from gan.pages.digits import draw_digits

    generator = make_generator(0)
    row = draw_digits(generator, "20 6", seed=7)
    assert row.shape == (28, 4 * 28) and row.dtype == np.uint8
    latents = np.random.default_rng(7).standard_normal((4, 4), np.float32)
    expected = to_uint8(generator([latents, np.array([2, 0, 0, 6], np.int32)]).numpy())[..., 0]
    for place in (0, 1, 3):
        np.testing.assert_array_equal(row[:, place * 28 : (place + 1) * 28], expected[place])
    assert not row[:, 56:84].any()
    np.testing.assert_array_equal(row, draw_digits(generator, "20 6", seed=7))
    assert not np.array_equal(row, draw_digits(generator, "20 6", seed=8))


@pytest.mark.parametrize("text", ["", " ", "12a", "٣", "1\n"])
def test_what_is_no_digit_is_refused(tensorflow, text):
    from gan.pages.digits import draw_digits

    with pytest.raises(UserError, match="expected digits and spaces"):
        draw_digits(make_generator(0), text, seed=0)


def test_an_unconditional_generator_is_refused_with_the_way_out(tensorflow):
    from gan.pages.digits import draw_digits

    with pytest.raises(DataError, match="gan use conditional-60s"):
        draw_digits(make_generator(0, conditional=False), "1", seed=0)


def test_what_the_generator_gives_must_be_images(tensorflow):
    from gan.pages.digits import draw_digits

    generator = make_generator(0)
    generator.set_weights([np.full_like(weight, np.nan) for weight in generator.get_weights()])
    with pytest.raises(DataError, match="NaN or infinity"):
        draw_digits(generator, "1", seed=0)


def command(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "commands", "draw", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stderr


def run(folder, *line):
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    names = {f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(line, cwd=folder, env={**environment, **names}, check=True, capture_output=True)


@pytest.mark.slow
def test_the_trained_model_and_that_of_a_tag_draw(tensorflow, tmp_path):
    from gan.keras_files import save_model
    from gan.pages.digits import draw_digits

    (tmp_path / "data/model").mkdir(parents=True)
    generators = [make_generator(seed) for seed in (0, 1)]
    dvc = [sys.executable, "-m", "dvc"]
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, *dvc, "init", "-q")
    save_model(generators[0], tmp_path / "data/model/generator.keras")
    run(tmp_path, *dvc, "add", "-q", "data/model")
    run(tmp_path, "git", "add", "-A")
    run(tmp_path, "git", "commit", "-qm", "first")
    run(tmp_path, "git", "tag", "first")
    save_model(generators[1], tmp_path / "data/model/generator.keras")

    assert command(tmp_path, "2026", "--seed", "7", "--out", "now.png", "--scale", "1") == (0, "")
    then_drawn = ("draw", "2026", "--seed", "7", "--out", "then.png", "--scale", "2", "--version")
    assert gan_here(tmp_path, *then_drawn, "first").exit_code == 0
    now, then = (np.asarray(Image.open(tmp_path / name)) for name in ("now.png", "then.png"))
    np.testing.assert_allclose(now.astype(int), draw_digits(generators[1], "2026", seed=7), atol=1)  # another thread count
    assert then.shape == (56, 4 * 56)
    np.testing.assert_allclose(then[::2, ::2].astype(int), draw_digits(generators[0], "2026", seed=7), atol=1)

    run(tmp_path, "git", "tag", "run/20250101T000000Z-abcdef01", "first")
    for name in ("abcdef01", "20250101"):
        (tmp_path / "then.png").unlink()
        assert gan_here(tmp_path, *then_drawn, name).exit_code == 0
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "then.png")), then)

    code, errors = command(tmp_path, "1", "--out", "no.png", "--version", "nosuch")
    assert code == 1 and "nosuch: no such tag, branch, commit or experiment" in errors and len(errors.splitlines()) == 1
    shutil.rmtree(tmp_path / ".dvc/cache")
    run(tmp_path, *dvc, "remote", "add", "-d", "gone", str(tmp_path / "gone"))
    code, errors = command(tmp_path, "1", "--out", "no.png", "--version", "first")
    assert code == 1 and "no data/model/generator.keras of first" in errors and len(errors.splitlines()) == 1
    (tmp_path / "data/model/generator.keras").unlink()
    code, errors = command(tmp_path, "1", "--out", "no.png")
    assert code == 1 and errors.endswith("data/model/generator.keras: no such file; `dvc repro train` makes it\n")
    assert not (tmp_path / "no.png").exists()
