"""The gallery: every pixel where it belongs, stable names and bytes, and damaged inputs that end in one line."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from gan.errors import DataError
from gan.images import tile, to_unit_range
from gan.keras_files import load_model
from gan.pages import pictures
from stages import gallery as stage
from tests.helpers.tensorflow import THREADS

ROOT = Path(__file__).resolve().parents[2]
STEPS = [0, 50, 5000]


def snapshots(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, 16, 28, 28, 1), np.uint8)


def pixels_of(path):
    with Image.open(path) as image:
        assert (image.mode, image.format) == ("L", "PNG")
        return np.asarray(image)


def make_generator(keras, *, latent_dim=3, name="latents"):
    latents = keras.Input((latent_dim,), name=name)
    x = keras.layers.Dense(784, activation="tanh", kernel_initializer=keras.initializers.GlorotUniform(1))(latents)
    return keras.Model(latents, keras.layers.Reshape((28, 28, 1))(x))


def make_conditional_generator(keras, *, labels_first):
    """A generator whose images for digit k are all of the gray 25 k, whatever the latents."""
    latents, labels = keras.Input((3,), name="latents"), keras.Input((), dtype="int32", name="labels")
    grays = np.repeat(np.arange(10, dtype=np.uint8)[:, None] * 25, 784, axis=1)
    embedding = keras.layers.Embedding(10, 784)
    x = keras.layers.Add()([embedding(labels), keras.layers.Dense(784, kernel_initializer="zeros")(latents)])
    embedding.set_weights([to_unit_range(grays)])
    return keras.Model([labels, latents] if labels_first else [latents, labels], keras.layers.Reshape((28, 28, 1))(x))


def make_judge(keras):
    images = keras.Input((28, 28, 1))
    x = keras.layers.Dense(10, activation="softmax", kernel_initializer=keras.initializers.GlorotUniform(2))(
        keras.layers.Flatten()(images)
    )
    return keras.Model(images, {"probabilities": x})


def make_workplace(folder, keras, generator, *, steps=STEPS, **changes):
    (folder / "data/judge").mkdir(parents=True)
    make_judge(keras).save(folder / "data/judge/judge.keras")
    np.savez(folder / "data/judge/reference.npz", copy_thresholds=np.full(10, 30, np.float32))
    (folder / "data/normalized").mkdir()
    np.save(folder / "data/normalized/train_images.npy", to_unit_range(snapshots(2).reshape(-1, 28, 28, 1)))
    (folder / "data/model").mkdir()
    np.savez(folder / "data/model/snapshots.npz", steps=np.array(steps), images=snapshots(len(steps)))
    generator.save(folder / "data/model/generator.keras")
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["gallery"].update(threads=THREADS, **changes)
    yaml.dump(params, folder / "params.yaml")
    return folder


def test_a_grid_has_every_pixel_as_a_square():
    # three images of 1 x 2 pixels in two columns, twice as large; the fourth cell stays black
    images = np.array([[[1, 2]], [[3, 4]], [[5, 6]]], np.uint8)[..., None]
    assert pictures.grid(images, columns=2, scale=2).tolist() == [
        [1, 1, 2, 2, 3, 3, 4, 4],
        [1, 1, 2, 2, 3, 3, 4, 4],
        [5, 5, 6, 6, 0, 0, 0, 0],
        [5, 5, 6, 6, 0, 0, 0, 0],
    ]


def test_the_stage_writes_every_picture_with_the_right_pixels_twice_the_same(tensorflow, tmp_path, monkeypatch):
    generator = make_generator(tensorflow.keras)
    monkeypatch.chdir(
        make_workplace(tmp_path, tensorflow.keras, generator, scale=2, final_rows=3, final_columns=5, final_scale=1)
    )
    stage.main()
    folder = tmp_path / "data/gallery"
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    pictures_of_run = ["evolution.png", "final.png", "img-0.png", "img-50.png", "img-5000.png"]
    of_explorer = ["direction-1.png", "direction-2.png", "direction-3.png", "explorer.json", "plane.png"]
    assert sorted(first) == sorted(pictures_of_run + of_explorer)
    assert pixels_of(folder / "plane.png").shape == (9 * 28 * 2, 9 * 28 * 2)
    for step, images in zip(STEPS, snapshots(), strict=True):
        pixels = pixels_of(folder / f"img-{step}.png")
        assert pixels.shape == (224, 224)
        assert np.array_equal(pixels[::2, ::2], tile(images, columns=4))
        # the first image of the second row starts one image down, at the left
        assert np.array_equal(pixels[56:112:2, 0:56:2], images[4, :, :, 0])
    final = pictures.sample(generator, rows=3, columns=5, seed=2014)
    assert np.array_equal(pixels_of(folder / "final.png"), tile(final, columns=5))

    (folder / "stale.png").write_bytes(b"")
    stage.main()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_the_animation_shows_every_snapshot_and_says_its_step(tmp_path):
    grids = [pictures.grid(images, columns=4, scale=2) for images in snapshots()]
    path = tmp_path / "evolution.png"
    pictures.write_animation(path, grids, STEPS, frame_milliseconds=100, last_milliseconds=2000)
    captions, durations = [], []
    with Image.open(path) as image:
        assert image.n_frames == len(STEPS)
        assert image.info["loop"] == 0
        for index, pixels in enumerate(grids):
            image.seek(index)
            frame = np.asarray(image.convert("L"))
            assert np.array_equal(frame[: len(pixels)], pixels)
            captions.append(frame[len(pixels) :])
            durations.append(image.info["duration"])
    assert durations == [100, 100, 2000]
    assert all(caption.max() == 255 and caption.min() == 0 for caption in captions)
    ends = [np.flatnonzero(caption.any(axis=0)).max() for caption in captions]
    assert ends[0] < ends[1] < ends[2]  # "step 0", "step 50", "step 5000"


def test_equal_snapshots_keep_their_frames(tmp_path):
    pixels = np.zeros((28, 28), np.uint8)
    pictures.write_animation(tmp_path / "a.png", [pixels] * 4, range(4), frame_milliseconds=100, last_milliseconds=100)
    with Image.open(tmp_path / "a.png") as image:
        assert image.n_frames == 4


def test_a_single_snapshot_is_an_animation_too(tmp_path):
    pixels = np.zeros((112, 112), np.uint8)
    pictures.write_animation(tmp_path / "a.png", [pixels], [0], frame_milliseconds=100, last_milliseconds=100)
    assert pixels_of(tmp_path / "a.png").shape[1] == 112


def test_samples_depend_on_the_seed_alone(tensorflow):
    generator = make_generator(tensorflow.keras)
    one, same, other = (pictures.sample(generator, rows=2, columns=3, seed=seed) for seed in (1, 1, 2))
    assert (one.shape, one.dtype) == ((6, 28, 28, 1), np.uint8)
    assert np.array_equal(one, same) and not np.array_equal(one, other)


@pytest.mark.parametrize("labels_first", [False, True])
def test_a_conditional_generator_has_a_row_a_digit(tensorflow, labels_first):
    generator = make_conditional_generator(tensorflow.keras, labels_first=labels_first)
    images = pictures.sample(generator, rows=3, columns=4, seed=0)
    assert images.shape == (40, 28, 28, 1)
    rows = images.reshape(10, -1)
    assert [set(row.tolist()) for row in rows] == [{25 * digit} for digit in range(10)]


def test_a_model_that_is_no_generator_is_refused(tensorflow):
    keras = tensorflow.keras
    image_input = keras.Input((28, 28, 1), name="images")
    with pytest.raises(DataError, match=r"expected a generator of latents .* got inputs \{'images': \[None, 28, 28, 1\]\}"):
        pictures.sample(keras.Model(image_input, image_input), rows=1, columns=1, seed=0)
    vector = keras.Input((3,), name="latents")
    with pytest.raises(DataError, match=r"expected finite images \[n, h, w, 1\] .* got float32 \[1, 3\]"):
        pictures.sample(keras.Model(vector, vector), rows=1, columns=1, seed=0)
    nan = make_generator(keras)
    nan.set_weights([np.full_like(weight, np.nan) for weight in nan.get_weights()])
    with pytest.raises(DataError, match="expected finite images"):
        pictures.sample(nan, rows=1, columns=1, seed=0)
    bright = keras.Model(vector, keras.layers.Reshape((28, 28, 1))(keras.layers.Dense(784, bias_initializer="ones")(vector)))
    with pytest.raises(DataError, match=r"expected images in \[-1, 1\] from the generator, got "):  # and not clipped
        pictures.sample(bright, rows=2, columns=2, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": snapshots().astype(np.float32)},
            r"expected images uint8 \[k, n, 28, 28, 1\], got float32 \[3, 16, 28, 28, 1\]",
        ),
        ({"images": snapshots()[..., 0]}, r"expected images uint8 \[k, n, 28, 28, 1\], got uint8 \[3, 16, 28, 28\]"),
        ({"images": snapshots()[:, :0]}, r"expected images uint8 \[k, n, 28, 28, 1\], got uint8 \[3, 0, 28, 28, 1\]"),
        ({"images": snapshots(2)}, "expected a step for each of 2 snapshots, got 3"),
        ({"images": np.array([object()])}, "not a readable archive of snapshots"),
        ({"steps": np.array([0.0, 1.0, 2.0])}, r"expected steps int64 \[k\] with k > 0, got float64 \[3\]"),
        ({"steps": np.array([], np.int64)}, r"expected steps int64 \[k\] with k > 0, got int64 \[0\]"),
        ({"steps": np.array([0, 50, 50])}, r"expected steps that increase from 0 or more, got \[0, 50, 50\]"),
        ({"steps": np.array([-1, 0, 1])}, "expected steps that increase from 0 or more"),
    ],
)
def test_snapshots_of_another_kind(tmp_path, changes, message):
    path = tmp_path / "snapshots.npz"
    np.savez(path, **({"steps": np.array(STEPS), "images": snapshots()} | changes))
    with pytest.raises(DataError, match=message) as caught:
        pictures.read_snapshots(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text", "flipped", "no images", "one array"])
def test_damaged_snapshots(tmp_path, damage):
    path = tmp_path / "snapshots.npz"
    np.savez_compressed(path, steps=np.array(STEPS), images=snapshots())
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "no images":
        np.savez(path, steps=np.array(STEPS))
    elif damage == "one array":
        with open(path, "wb") as file:
            np.save(file, np.array(STEPS))
    else:
        flipped = whole[:20_000] + bytes(byte ^ 255 for byte in whole[20_000:20_100]) + whole[20_100:]
        path.write_bytes({"empty": b"", "truncated": whole[:-1000], "text": b"hello", "flipped": flipped}[damage])
    with pytest.raises(DataError) as caught:
        pictures.read_snapshots(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text"])
def test_a_damaged_generator(tensorflow, tmp_path, damage):
    path = tmp_path / "generator.keras"
    make_generator(tensorflow.keras).save(path)
    whole = path.read_bytes()
    path.write_bytes({"missing": b"", "empty": b"", "truncated": whole[: len(whole) // 2], "text": b"hello"}[damage])
    if damage == "missing":
        path.unlink()
    with pytest.raises(DataError) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.slow(seconds=15)
def test_a_whole_run_is_drawn_quickly_and_the_same_by_another_process(tensorflow, tmp_path):
    make_workplace(tmp_path, tensorflow.keras, make_generator(tensorflow.keras, latent_dim=100), steps=range(0, 5001, 50))

    def processor_seconds(*arguments):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command, environment = [sys.executable, *arguments], {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert (done.returncode, done.stderr) == (0, "")
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    contents = []
    for _ in range(2):
        seconds = processor_seconds("-m", "stages.gallery")
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "data/gallery").iterdir()})
    assert len(contents[0]) == 110
    assert contents[0] == contents[1]
    start = processor_seconds("-c", f"from gan.runtime import start_tensorflow; start_tensorflow({THREADS})")
    print(f"{seconds:.1f} s, {start:.1f} s of them to start TensorFlow")
    assert seconds < 4 * start  # about 2 on an idle machine


@pytest.mark.slow
def test_a_damaged_input_ends_the_command_in_one_line_and_keeps_the_old_gallery(tensorflow, tmp_path):
    make_workplace(tmp_path, tensorflow.keras, make_generator(tensorflow.keras))
    (tmp_path / "data/gallery").mkdir()
    (tmp_path / "data/gallery/final.png").write_text("old")
    (tmp_path / "data/model/snapshots.npz").write_bytes(b"PK\x03\x04")
    command = [sys.executable, "-m", "stages.gallery"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("python -m stages.gallery: data/model/snapshots.npz: not a readable archive")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "data/gallery/final.png").read_text() == "old"
