"""What studies have measured of seeds counts in the gate and in comparisons, for exactly the parameters that they measured."""

import json
import math

import pytest
from scipy import stats

from flows.gate import verdict_on
from flows.metrics import compare
from flows.studies.spreads import digest, measured, seed_spread
from gan.errors import DataError
from tests.flows.test_gate import GATE

PARAMS = {"train": {"seed": 0, "adam": {"rate": 0.1}}, "judge": {"seed": 1}}
TEXT = "train: {seed: 5, adam: {rate: 0.1}}\njudge: {seed: 2}\n"


@pytest.fixture
def write(tmp_path):
    def write(study, seeds, deviation, params=PARAMS):
        numbers = {"seeds": seeds, "mean": 50.0, "deviation": deviation}
        entry = {"seed_parameter": "train.seed", "digest": digest(params, "train.seed"), "metrics": {"fid": numbers}}
        path = tmp_path / "data/studies" / study / "spreads.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps([entry]))
        return path

    return write


def widened(seeds, margin=2.0):
    return stats.t.ppf(stats.norm.cdf(margin), seeds - 1) / margin


def test_runs_that_differ_by_the_seed_alone_have_the_measured_spread(tmp_path, write):
    write("small", 4, 9.0)
    write("large", 12, 3.0)
    assert seed_spread(tmp_path, TEXT, GATE) == pytest.approx(3 / 50 * widened(12))
    assert measured(tmp_path, {**PARAMS, "judge": {}}, margin=2.0) == {"fid": pytest.approx(3 / 50 * widened(12))}
    assert widened(12) > 1.1
    other = {"train": {"seed": 0, "adam": {"rate": 0.2}}}
    assert measured(tmp_path, other, margin=2.0) == {}
    assert seed_spread(tmp_path, TEXT.replace("0.1", "0.2"), GATE) == GATE.seed_spread
    assert digest({"train": {}}, "train.seed") is digest({}, "train.adam.rate") is None


def test_three_seeds_say_next_to_nothing(tmp_path, write):
    write("tiny", 3, 3.0)
    assert measured(tmp_path, PARAMS, margin=2.0) == {}


def test_a_damaged_file_is_named(tmp_path, write):
    path = write("rates", 5, 3.0)
    path.write_text('[{"seed_parameter": "train.seed"}]')
    with pytest.raises(DataError, match=r"spreads.json: not what `gan study report` writes"):
        measured(tmp_path, PARAMS, margin=2.0)


# noises of 0.3 and 0.4, spreads of 4 % of 10 and 3 % of 10: each run's noise is 0.5, and twice that of a difference 1.414
@pytest.mark.parametrize(("fid", "mark"), [(11.41, "accepted"), (11.43, "worse")])
def test_the_gate_and_a_comparison_count_each_runs_own_spread(fid, mark):
    new, last = {"fid": fid, "fid_std": 0.3}, {"fid": 10.0, "fid_std": 0.4}
    spreads = 0.4 / fid, 0.03
    verdict = verdict_on(
        json.dumps(new).encode(), GATE, last_content=json.dumps(last).encode(), last_tag="last", seed_spreads=spreads
    )
    assert verdict.mark == mark
    [one] = compare(new, last, GATE, measured=({"fid": spreads[0]}, {"fid": spreads[1]}))
    assert one.explained == pytest.approx(2 * math.hypot(0.5, 0.5)) and one.beyond_noise is (mark == "worse")
    assert one.seeds == pytest.approx(0.4)
