"""What training shows of itself: events read back with TensorFlow, and what a stop, a full disk and many runs make of them."""

import re
import time
import types

import numpy as np
import pytest

from tests.helpers.tensorflow import start

start()  # here, since what follows imports TensorFlow

from gan.training.loop import TrainingRun  # noqa: E402
from gan.training.networks import build_generator  # noqa: E402
from gan.training.summaries import EventFile, Summaries, generators_in, load_generator, load_generator_weights  # noqa: E402

PARAMS = types.SimpleNamespace(steps=101)
KEY = "0123456789abcdef"

pytestmark = pytest.mark.usefixtures("tensorflow")


def events(folder):
    """The events of every file in the folder, in order."""
    import tensorflow as tf

    paths = sorted(map(str, folder.glob("events.out.tfevents.*")))
    return [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(paths)]


def scalars(folder, tag):
    return {e.step: v.simple_value for e in events(folder) for v in e.summary.value if v.tag == tag}


def train_to(run, end, *, log_every=10, generator=None):
    """Give `run` the history and snapshots of the steps up to `end`, G loss being the step's number; keep the generator there."""
    rows = [[step, step / 2, 50] for step in range(run.next_step, end)]
    run.history.append(np.array(rows, np.float32))
    for step in range(run.next_step, end):
        if step % log_every == 0:
            run.snapshots[step] = np.full((16, 28, 28, 1), step, np.uint8)
    run.next_step = end
    if generator is not None:
        run.trajectory[end - 1] = generator.get_weights()


@pytest.fixture(scope="module")
def generator(tensorflow):
    return build_generator(latent_dim=4, units=[8], leaky_slope=0.2, seed=0)


def test_losses_samples_and_generators_can_be_read_back(generator, tmp_path):
    import tensorflow as tf

    run = TrainingRun({})
    with Summaries(tmp_path, KEY, PARAMS, run, generator=generator) as live:
        train_to(run, 11)
        live.update(last=True)
        train_to(run, 101, generator=generator)
        live.update(last=True)
    assert re.fullmatch(r"\d{8}T\d{6}Z-01234567", live.folder.name)
    first, *others = events(live.folder)
    assert first.file_version == "brain.Event:2"
    assert abs(others[-1].wall_time - time.time()) < 60
    assert scalars(live.folder, "loss/G") == {step: step for step in range(101)}
    assert scalars(live.folder, "loss/D")[7] == 3.5
    assert set(scalars(live.folder, "D accuracy in percent").values()) == {50}
    pictures = {e.step: v.image for e in others for v in e.summary.value if v.tag == "samples"}
    assert list(pictures) == [10, 100]
    content = pictures[100].encoded_image_string
    shown = tf.io.decode_png(content).numpy()
    assert shown.shape == (pictures[100].height, pictures[100].width, 1) == (224, 224, 1) and (shown == 100).all()
    assert (live.folder / "samples.png").read_bytes() == content
    ((step, path),) = generators_in(live.folder).items()
    loaded = load_generator(live.folder)
    loaded.set_weights(load_generator_weights(path))
    latents = np.ones((2, 4), np.float32)
    assert step == 100
    np.testing.assert_array_equal(loaded(latents), generator(latents))


def test_samples_stand_in_rows_of_four(generator, tmp_path):
    import tensorflow as tf

    run = TrainingRun({}, 1, [np.zeros((1, 3), np.float32)])
    with Summaries(tmp_path, KEY, PARAMS, run, generator=generator) as live:
        run.snapshots[0] = np.arange(16, dtype=np.uint8)[:, None, None, None] * np.ones((1, 28, 28, 1), np.uint8)
        live.update(last=True)
    picture = tf.io.decode_png((live.folder / "samples.png").read_bytes()).numpy()[28::56, 28::56, 0]
    np.testing.assert_array_equal(picture, np.arange(16).reshape(4, 4))


def test_a_run_that_goes_on_goes_on_in_its_folder_where_its_checkpoint_is(generator, tmp_path):
    run = TrainingRun({})
    with Summaries(tmp_path, KEY, PARAMS, run, generator=generator) as live:
        train_to(run, 31)
        live.update(last=True)
    again = TrainingRun({})
    train_to(again, 16)  # the checkpoint is from before the kill
    with Summaries(tmp_path, KEY, PARAMS, again, generator=generator) as resumed:
        train_to(again, 41)
        resumed.update(last=True)
    assert resumed.folder == live.folder
    (start,) = [event.step for event in events(live.folder)[3:] if event.HasField("session_log")]
    assert start == 11  # from which TensorBoard forgets what the first process wrote
    assert scalars(live.folder, "loss/G") == {step: step for step in range(41)}
    with Summaries(tmp_path, "f" * 16, PARAMS, again, generator=generator) as other:
        assert other.folder != live.folder


def test_the_newest_five_runs_stay_and_nothing_else_is_touched(generator, tmp_path):
    for year in range(2000, 2007):
        (tmp_path / f"{year}0101T000000Z-{year:08d}").mkdir()
    (tmp_path / "mine").mkdir()
    with Summaries(tmp_path, KEY, PARAMS, TrainingRun({}), generator=generator) as live:
        kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [*(f"{year}0101T000000Z-{year:08d}" for year in range(2003, 2007)), live.folder.name, "mine"]


def test_a_disk_that_takes_nothing_is_one_line(generator, tmp_path):
    import tensorflow as tf

    lines = []
    run = TrainingRun({})
    with Summaries(tmp_path, KEY, PARAMS, run, generator=generator, log=lines.append) as live:
        live._events._writer = tf.io.TFRecordWriter("/dev/full")
        for end in (11, 21, 31):
            train_to(run, end)
            live.update(last=True)
    (line,) = lines
    assert line.startswith("nothing more for `make live`: ") and line.endswith("training goes on")

    (tmp_path / "file").touch()
    with Summaries(tmp_path / "file", KEY, PARAMS, run, generator=generator, log=lines.append) as live:
        live.update(last=True)
    assert lines[1:] == ["nothing more for `make live`: File exists; training goes on"]


def test_it_takes_half_a_percent_of_the_time(generator, tmp_path, monkeypatch):
    """With a clock by which writing takes 0.1 s and training 1 s from log step to log step: one in 20 may be written."""
    now = [0.0]
    written = []
    monkeypatch.setattr("gan.training.summaries.time.monotonic", lambda: now[0])

    def write():
        written.append(now[0])
        now[0] += 0.1

    with Summaries(tmp_path, KEY, PARAMS, TrainingRun({}), generator=generator) as live:
        monkeypatch.setattr(live, "_write", write)
        for _ in range(200):
            now[0] += 1
            live.update()
    assert 8 <= len(written) <= 11
    assert 0.1 * len(written) <= 0.005 * now[0] + 0.1


def test_a_file_in_a_new_folder_is_visible_at_once(tmp_path):
    file = EventFile(tmp_path / "run" / "quick FID", first_step=3)
    file.scalars(5, {"FID": 1.5})
    file.flush()
    assert scalars(tmp_path / "run" / "quick FID", "FID") == {5: 1.5}
    file.close()
