"""What studies have measured of seeds counts in the gate and in comparisons, for exactly the parameters that they measured."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from flows.gate import verdict_on
from flows.metrics import compare
from flows.studies.spreads import Spread, measured, spread_of, without_seed
from flows.studies.statistics import rate_of
from gan.errors import DataError
from gan.params import PARAMS as PARAMS_FILE
from gan.params import parse_yaml, read_text
from tests.flows.test_gate import GATE

ROOT = Path(__file__).resolve().parents[2]
PARAMS = {"train": {"seed": 0, "adam": {"rate": 0.1}}, "judge": {"seed": 1}}
TEXT = "train: {seed: 5, adam: {rate: 0.1}}\njudge: {seed: 2}\n"


@pytest.fixture
def write(tmp_path):
    def write(study, seeds, deviation, seed="train.seed"):
        numbers = {"seeds": seeds, "mean": 50.0, "deviation": deviation}
        entry = {"variant": "baseline", "seed_parameter": seed, "params": without_seed(PARAMS, seed), "metrics": {"fid": numbers}}
        path = tmp_path / "data/studies" / study / "spreads.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps([entry]))
        return path

    return write


def test_runs_that_differ_by_the_seed_alone_have_the_measured_spread(tmp_path, write):
    write("small", 4, 9.0)
    write("large", 12, 3.0)
    found = spread_of(tmp_path, TEXT, GATE)
    assert (found.share, found.seeds) == (pytest.approx(3 / 50), 12)
    assert measured(tmp_path, {**PARAMS, "judge": {}}) == {"fid": found}
    other = {"train": {"seed": 0, "adam": {"rate": 0.2}}}
    assert measured(tmp_path, other) == {}
    assert spread_of(tmp_path, TEXT.replace("0.1", "0.2"), GATE) == Spread(GATE.seed_spread)
    assert without_seed({"train": {}}, "train.seed") is without_seed({}, "train.adam.rate") is None


def test_seeds_of_the_judge_say_nothing_of_training(tmp_path, write):
    write("judges", 12, 0.1, seed="judge.seed")
    assert measured(tmp_path, PARAMS) == {}


def test_the_defaults_spread_is_known():
    """A new parameter that changes no result is written into data/studies/*/spreads.json as well."""
    found = measured(ROOT, parse_yaml(read_text(ROOT / PARAMS_FILE)))
    assert "fid" in found, "no data/studies/*/spreads.json has the section train of params.yaml; docs/extend.md#a-parameter"
    spread = found["fid"]
    assert spread.seeds == 5 and spread.source == "learning-rate baseline"


def test_three_seeds_say_next_to_nothing(tmp_path, write):
    write("tiny", 3, 3.0)
    assert measured(tmp_path, PARAMS) == {}


def test_a_damaged_file_is_named(tmp_path, write):
    path = write("rates", 5, 3.0)
    path.write_text('[{"seed_parameter": "train.seed"}]')
    with pytest.raises(DataError, match=r"spreads.json: not what `gan study report` writes"):
        measured(tmp_path, PARAMS)


def both(new, last, spreads, gate=GATE):
    """The gate's Verdict, and the ComparedMetric of the same two runs."""
    contents = [json.dumps(run).encode() for run in (new, last)]
    verdict = verdict_on(contents[0], gate, last_content=contents[1], last_tag="last", spreads=spreads)
    [one] = compare(new, last, gate, measured=({"fid": spreads[0]}, {"fid": spreads[1]}))
    return verdict, one


# noises of 0.3 and 0.4, spreads of 4 % of 10 and 3 % of 10: each run's noise is 0.5, and twice that of a difference 1.414
@pytest.mark.parametrize(("fid", "mark"), [(11.41, "accepted"), (11.43, "worse")])
def test_the_gate_and_a_comparison_count_each_runs_own_spread(fid, mark):
    spreads = Spread(0.4 / fid), Spread(0.03)
    verdict, one = both({"fid": fid, "fid_std": 0.3}, {"fid": 10.0, "fid_std": 0.4}, spreads)
    assert verdict.mark == mark
    assert one.explained == pytest.approx(2 * math.hypot(0.5, 0.5)) and one.beyond_noise is (mark == "worse")
    assert one.seeds == pytest.approx(0.4)


def test_a_spread_of_few_seeds_allows_what_students_distribution_says():
    # the same study measured both: one estimate with 4 degrees of freedom, 6 % of 50 and of 60
    deviation = 0.06 * math.hypot(50, 60)
    allowed = stats.t.isf(rate_of(2.0) / 2, 4) * deviation
    assert rate_of(2.0) == pytest.approx(2 * stats.norm.sf(2.0)) and allowed > 1.3 * 2 * deviation
    same = (Spread(0.06, 5, "a study"),) * 2
    verdict, one = both({"fid": 60.0, "fid_std": 0.0}, {"fid": 50.0, "fid_std": 0.0}, same)
    assert one.explained == pytest.approx(allowed) and verdict.mark == "accepted" and not one.beyond_noise
    assert one.p_value == pytest.approx(2 * stats.t.sf(10 / deviation, 4))
    # two studies: Welch's and Satterthwaite's degrees of freedom
    variances = (0.06 * 60) ** 2, (0.06 * 50) ** 2
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 4 + variances[1] ** 2 / 9)
    _, one = both({"fid": 60.0, "fid_std": 0.0}, {"fid": 50.0, "fid_std": 0.0}, (same[0], Spread(0.06, 10, "another")))
    assert one.explained == pytest.approx(stats.t.isf(rate_of(2.0) / 2, freedom) * math.sqrt(sum(variances)))


def test_a_run_whose_spread_nobody_has_measured_is_taken_to_move_as_far_as_the_other():
    new, old = ({"precision": value, "precision_std": 0.0} for value in (86.0, 69.0))
    spread, deviation = Spread(0.05, 5, "a study"), 0.05 * 69 * math.sqrt(2)
    for one, other, known in ((new, old, ({}, {"precision": spread})), (old, new, ({"precision": spread}, {}))):
        [compared] = compare(one, other, GATE, measured=known)
        assert compared.explained == pytest.approx(stats.t.isf(rate_of(2.0) / 2, 4) * deviation)
        assert compared.seeds == pytest.approx(0.05 * 69)


def test_another_judge_counts_in_a_comparison_as_in_the_gate():
    new, last = {"fid": 10.0, "fid_std": 0.4}, {"fid": 8.7, "fid_std": 0.4}
    allowed = [compare(new, last, GATE, same_ruler=same)[0].explained for same in (True, False)]
    verdict = verdict_on(json.dumps(new).encode(), GATE, last_content=json.dumps(last).encode(), last_tag="last")
    assert verdict.mark == "worse" and allowed[0] < 1.3 < allowed[1]
    assert allowed[1] == pytest.approx(2 * math.hypot(0.4, 0.4, 0.03 * 10, 0.03 * 8.7))


RUNS = 1000
OTHERS = ("kid", "precision", "recall", "coverage", "density", "confidence")
SPREADS = dict(zip(("fid", *OTHERS), (0.06, 0.15, 0.05, 0.04, 0.3, 0.1, 0.035), strict=True))  # over seeds, as shares


@pytest.mark.parametrize("seeds", [5, 20])
def test_the_gate_and_a_comparison_tell_equal_runs_apart_as_rarely_as_they_say(seeds):
    rng = np.random.default_rng(seeds)
    worse, told, others = 0, 0, 0
    for _ in range(RUNS):
        spreads = {}
        for metric, share in SPREADS.items():  # a study measures them first
            values = rng.normal(50, 50 * share, seeds)
            spreads[metric] = Spread(values.std(ddof=1) / values.mean(), seeds, "study")
        new, last = ({m: rng.normal(50, 50 * s) for m, s in SPREADS.items()} | {f"{m}_std": 0.0 for m in SPREADS} for _ in "ab")
        compared = {one.metric: one for one in compare(new, last, GATE, measured=(spreads, spreads))}
        told += compared["fid"].beyond_noise
        others += any(compared[metric].beyond_noise for metric in OTHERS)
        contents = (json.dumps(run).encode() for run in (new, last))
        verdict = verdict_on(next(contents), GATE, last_content=next(contents), last_tag="x", spreads=(spreads["fid"],) * 2)
        worse += verdict.mark == "worse"
        assert (verdict.mark == "worse") == (compared["fid"].beyond_noise and compared["fid"].change > 0)
    assert 0 < worse <= 0.05 * RUNS
    # 4.6 % are expected of each, so a thousand runs may show a little more than 5 %
    most = stats.binom.isf(1e-3, RUNS, 0.05)
    assert 0 < told <= most and 0 < others <= most
