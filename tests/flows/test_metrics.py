"""What counts as more than noise, with numbers derived by hand."""

import json
import math

import pytest

from flows.gate import verdict_on
from flows.metrics import compare, merged
from flows.settings import GateSettings
from gan.errors import DataError

GATE = GateSettings(
    artifact="generator",
    metrics_file="m.json",
    metric="fid",
    noise="fid_std",
    seed_spread=0.0,
    ruler=None,
    ruler_spread=0.0,
    direction="lower",
    margin=2.0,
)


def one(value, previous, gate=GATE):
    [found] = compare(value, previous, gate)
    return found


# noises of 0.3 and 0.4 make 0.5 of a difference, and a margin of 2 explains 1.0
@pytest.mark.parametrize(("fid", "beyond"), [(10.0, False), (10.999, False), (11.001, True), (9.001, False), (8.999, True)])
def test_a_change_counts_from_the_margin_of_both_noises(fid, beyond):
    found = one({"fid": fid, "fid_std": 0.3}, {"fid": 10.0, "fid_std": 0.4})
    assert found.explained == pytest.approx(1.0) and found.beyond_noise is beyond
    assert found.change == pytest.approx(fid - 10) and (found.noise, found.previous_noise) == (0.3, 0.4)
    assert found.seeds is None


def test_the_spread_over_seeds_counts_for_the_gates_metric_alone():
    gate = GATE.model_copy(update={"seed_spread": 0.04})
    values = {"fid": 10.0, "fid_std": 0.3, "kid": 10.0, "kid_std": 0.3}
    fid, kid = compare(values, values, gate)
    # a noise of 0.3 and 4 % of 10 make 0.5 for each run, so twice the difference's noise is 2 * 0.5 * sqrt(2)
    assert fid.explained == pytest.approx(2 * 0.5 * math.sqrt(2)) and fid.seeds == pytest.approx(0.4)
    assert kid.explained == pytest.approx(2 * 0.3 * math.sqrt(2)) and kid.seeds is None


@pytest.mark.parametrize("spread", [0.0, 0.04])
@pytest.mark.parametrize("fid", [9.0, 10.0, 10.99, 11.01, 11.5, 12.0])
def test_the_gate_and_the_comparison_judge_alike(fid, spread):
    gate = GATE.model_copy(update={"seed_spread": spread})
    new, last = {"fid": fid, "fid_std": 0.3}, {"fid": 10.0, "fid_std": 0.4}
    verdict = verdict_on(json.dumps(new).encode(), gate, last_content=json.dumps(last).encode(), last_tag="last")
    found = one(new, last, gate)
    assert (verdict.mark == "worse") == (found.beyond_noise and found.change > 0)


def test_without_a_noise_the_difference_stands_alone():
    found = one({"g_loss": 3.0}, {"g_loss": 2.5})
    assert (found.change, found.explained, found.beyond_noise) == (0.5, None, None)
    fid = one({"fid": 3.0, "fid_std": 0.1}, {"fid": 2.0})
    assert (fid.change, fid.explained, fid.beyond_noise) == (1.0, None, None)


def test_what_one_run_lacks_or_is_no_number_has_no_change():
    added, kind, gone = compare({"added": 1, "kind": "a"}, {"kind": "b", "gone": 2.0}, GATE)
    assert (added.metric, added.value, added.previous, added.change, added.beyond_noise) == ("added", 1, None, None, None)
    assert (kind.value, kind.previous, kind.change) == ("a", "b", None)
    assert (gone.metric, gone.value, gone.previous) == ("gone", None, 2.0)


def test_metrics_files_are_merged_and_a_damaged_one_is_named():
    contents = {"a.json": b'{"x": {"y": 1}, "z": [1]}', "b.json": b'{"x": {"y": 2}, "w": 3}'}
    assert merged(contents) == {"x.y": 1, "b.json:x.y": 2, "w": 3}
    with pytest.raises(DataError, match="^b.json: not valid JSON$"):
        merged({"b.json": b"{"})
