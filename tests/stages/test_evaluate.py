"""The evaluate stage as a process, with generators of every kind: its bytes, its numbers, its errors."""

import csv
import json
import re
import shutil

import numpy as np
import pytest

from gan.errors import DataError
from tests.helpers.small_digits import make_workplace, run_here, run_stage

pytestmark = pytest.mark.slow(seconds=6)
STEPS = (0, 50, 1000)


@pytest.fixture(scope="module")
def judged(tmp_path_factory, tensorflow):
    folder = make_workplace(tmp_path_factory.mktemp("judge"))
    run_here("judge", folder)
    return folder


def write_generator(folder, *, conditional=False, nan=False):
    """A small untrained generator as the train stage writes one, its first weights negated from step to step."""
    from gan.keras_files import save_model
    from gan.training.networks import build_generator

    model = build_generator(latent_dim=6, units=[8], leaky_slope=0.01, seed=0, conditional=conditional)
    (folder / "data/model/trajectory").mkdir(parents=True)
    for step in reversed(STEPS):
        model.set_weights([-weight for weight in model.get_weights()])
        model.save_weights(folder / f"data/model/trajectory/generator-{step:06d}.weights.h5")
    if nan:
        model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    save_model(model, folder / "data/model/generator.keras")


@pytest.fixture
def workplace(judged, tmp_path):
    for name in ("data/judge", "data/normalized"):
        shutil.copytree(judged / name, tmp_path / name)
    shutil.copy(judged / "params.yaml", tmp_path)
    return tmp_path


def read_outs(folder):
    return [(folder / "data/evaluation" / name).read_bytes() for name in ("metrics.json", "trajectory.csv")]


def test_every_kept_generator_gets_every_metric_and_the_bytes_are_the_same_again(workplace):
    write_generator(workplace)
    code, output = run_stage("evaluate", workplace)
    assert code == 0, output
    assert "final model: FID" in output and "step 50: FID" in output
    for step in (0, 1000):  # negated twice: the same weights, which are measured once
        assert f"step {step}: the final model" in output and f"step {step}: FID" not in output
    contents = read_outs(workplace)
    shutil.rmtree(workplace / "data/evaluation")
    run_here("evaluate", workplace)
    assert read_outs(workplace) == contents
    metrics = json.loads(contents[0])
    assert metrics["fid"] > 20 and metrics["recall_percent"] < 50
    assert not any(name.startswith("classification") for name in metrics)
    rows = list(csv.DictReader(contents[1].decode().splitlines()))
    assert [int(row["step"]) for row in rows] == list(STEPS)
    assert list(rows[0]) == ["step", *metrics]
    # the generator of step 0 was saved last and is the final one
    assert {name: float(rows[0][name]) for name in metrics} == metrics
    assert rows[1] != rows[0] | {"step": "50"}


def test_a_conditional_generator_gets_a_classification_accuracy_score(workplace):
    write_generator(workplace, conditional=True)
    run_here("evaluate", workplace)
    metrics = json.loads((workplace / "data/evaluation/metrics.json").read_text())
    judge = json.loads((workplace / "data/judge/metrics.json").read_text())
    assert metrics["classification_accuracy_percent"] < 60  # untrained
    assert metrics["classification_accuracy_real_percent"] == judge["accuracy_percent"]


def test_a_large_sample_gives_a_second_distance_with_less_noise(workplace):
    write_generator(workplace)
    params = workplace / "params.yaml"
    params.write_text(params.read_text().replace("large_sample_count: 0", "large_sample_count: 5000"))
    run_here("evaluate", workplace)
    metrics, rows = (contents.decode() for contents in read_outs(workplace))
    metrics = json.loads(metrics)
    for name in ("fid", "fid_infinity"):
        large, noise = metrics[f"{name}_large_sample"], metrics[f"{name}_large_sample_std"]
        assert 0 < noise < metrics[f"{name}_std"] / 2  # 5,000 digits in place of a few hundred
        assert large == pytest.approx(metrics[name], abs=5 * metrics[f"{name}_std"])
        assert large != metrics[name]
    assert "large" not in rows


def test_another_seed_draws_another_sample_within_the_noise(workplace):
    write_generator(workplace)
    results = []
    for seed in ("0", "1"):
        text = (workplace / "params.yaml").read_text()
        head, tail = text.split("\nevaluate:")
        (workplace / "params.yaml").write_text(head + "\nevaluate:" + tail.replace("seed: 0", f"seed: {seed}", 1))
        run_here("evaluate", workplace)
        results.append(json.loads((workplace / "data/evaluation/metrics.json").read_text()))
    first, second = results
    assert first != second
    for name in ("fid", "kid", "confidence_percent"):
        assert abs(first[name] - second[name]) < 5 * np.hypot(first[f"{name}_std"], second[f"{name}_std"]), name


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: shutil.rmtree(data / "model/trajectory"), "no file generator-<step>.weights.h5"),
        (lambda data: (data / "model/generator.keras").unlink(), "generator.keras: no such file"),
        (lambda data: (data / "judge/judge.keras").write_bytes(b"PK"), "judge.keras: not a readable Keras model"),
        (lambda data: (data / "judge/reference.npz").write_bytes(b"PK"), "reference.npz: not a readable reference"),
        (
            lambda data: (data / "model/trajectory/generator-000050.weights.h5").write_bytes(b"\x89HDF"),
            "generator-000050.weights.h5: not weights of this generator",
        ),
    ],
)
def test_a_missing_or_damaged_input_is_one_clear_error(workplace, spoil, message):
    write_generator(workplace)
    spoil(workplace / "data")
    with pytest.raises(DataError, match=re.escape(message)):
        run_here("evaluate", workplace)
    assert not (workplace / "data/evaluation").exists()


def test_a_diverged_generator_is_one_clear_error(workplace):
    write_generator(workplace, nan=True)
    with pytest.raises(DataError, match="final model: the generator's images hold NaN or infinity"):
        run_here("evaluate", workplace)
