"""The quality gate: what is worse by more than the noise is not accepted."""

import json
import subprocess

import pytest

from flows.gate import out_digest, verdict_against_last, verdict_on
from flows.git import Repository
from flows.settings import GateSettings
from flows.studies.spreads import Spread
from gan.errors import DataError

GATE = GateSettings(
    artifact="generator",
    metrics_file="m.json",
    metric="fid",
    noise="fid_std",
    seed_spread=0.0,
    ruler="judge.keras",
    ruler_spread=0.03,
    direction="lower",
    margin=2.0,
)


def metrics(fid, noise=0.3):
    return json.dumps({"fid": fid, "fid_std": noise}).encode()


# two noises of 0.3 and 0.4 make a difference's noise of 0.5, and a margin of 2 allows 1.0
@pytest.mark.parametrize("fid, mark", [(9.0, "accepted"), (10.0, "accepted"), (10.999, "accepted"), (11.001, "worse")])
def test_the_gate_accepts_what_is_worse_by_no_more_than_the_noise(fid, mark):
    verdict = verdict_on(metrics(fid), GATE, last_content=metrics(10.0, 0.4), last_tag="generator@v1.0.0")
    assert verdict.mark == mark
    higher = GATE.model_copy(update={"direction": "higher"})
    mirrored = verdict_on(metrics(20 - fid), higher, last_content=metrics(10.0, 0.4), last_tag="generator@v1.0.0")
    assert mirrored.mark == mark


# a noise of 0.3 and 4 % of 10 make 0.5; the last one's is made the same, so twice the difference's noise is 1.414
@pytest.mark.parametrize("last_fid, mark", [(8.59, "accepted"), (8.57, "worse")])
def test_the_gate_knows_that_seeds_differ(last_fid, mark):
    gate_of_seeds = GATE.model_copy(update={"seed_spread": 0.04})
    last = metrics(last_fid, (0.5**2 - (0.04 * last_fid) ** 2) ** 0.5)
    verdict = verdict_on(metrics(10.0, 0.3), gate_of_seeds, last_content=last, last_tag="generator@v1.0.0")
    assert verdict.mark == mark
    assert "10 ± 0.5, generator@v1.0.0 has " in verdict.message


# 3 % of 10 and a noise of 0.4 make 0.5, as does the last one's; twice the difference's noise is 1.414 in place of 1.131
@pytest.mark.parametrize("same_ruler, mark", [(True, "worse"), (False, "accepted")])
def test_the_gate_knows_that_judges_differ(same_ruler, mark):
    last = metrics(8.7, (0.5**2 - (0.03 * 8.7) ** 2) ** 0.5)
    verdict = verdict_on(metrics(10.0, 0.4), GATE, last_content=last, last_tag="generator@v1.0.0", same_ruler=same_ruler)
    assert verdict.mark == mark
    assert ("measured by another judge" in verdict.message) is not same_ruler


def test_the_ruler_is_known_by_its_bytes():
    lock = b"stages:\n  judge:\n    outs:\n    - path: a/judge.keras\n      md5: abc\n    - path: b\n      md5: def\n"
    assert out_digest(lock, "a/judge.keras") == "abc"
    assert out_digest(lock, "elsewhere") is out_digest(None, "a/judge.keras") is out_digest(lock, None) is None


def test_a_new_version_is_compared_with_the_newest_accepted_one_and_what_is_known_of_both(tmp_path):
    def git(*words):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=tmp_path, check=True, capture_output=True
        )

    def lock(judge):
        return f"stages:\n  judge:\n    outs:\n    - path: judge.keras\n      md5: {judge}\n".encode()

    git("init", "--quiet")
    for version, fid, judge in (("v1.9.0", 5.0, "one"), ("v1.10.0", 10.0, "two")):
        for name, content in (("m.json", metrics(fid)), ("dvc.lock", lock(judge)), ("params.yaml", version.encode())):
            (tmp_path / name).write_bytes(content)
        git("add", "--all")
        git("commit", "--quiet", "--message", version)
        git("tag", f"generator@{version}")
    for by_hand in ("vnext", "v2", "v1.11.0-rc1"):
        git("tag", f"generator@{by_hand}")

    def judged(fid, judge, share):
        asked = []
        verdict, last = verdict_against_last(
            Repository(tmp_path),
            GATE,
            metrics(fid),
            lock=lock(judge),
            params="mine",
            spread_of=lambda text: asked.append(text) or Spread(share),
        )
        assert (last, asked) == ("generator@v1.10.0", ["mine", "v1.10.0"])
        return verdict

    assert judged(10.8, "two", 0.0).accepted and not judged(11.0, "two", 0.0).accepted  # 2 x hypot(0.3, 0.3) = 0.85
    assert judged(11.0, "two", 0.1).accepted
    assert judged(11.0, "one", 0.0).accepted and "measured by another judge" in judged(11.0, "one", 0.0).message


def test_a_metric_that_the_last_version_did_not_have_begins_anew():
    verdict = verdict_on(metrics(10.0), GATE, last_content=b'{"kid": 1.0}', last_tag="generator@v1.0.0")
    assert verdict.accepted and "the first accepted version that is judged by it: generator@v1.0.0 has no fid" in verdict.message
    with pytest.raises(DataError, match="of generator@v1.0.0 has no number 'fid_std'"):
        verdict_on(metrics(10.0), GATE, last_content=b'{"fid": 1.0}', last_tag="generator@v1.0.0")


def test_the_gate_refuses_metrics_that_are_not_there():
    with pytest.raises(DataError, match="has no number 'fid_std'"):
        verdict_on(b'{"fid": 1.0}', GATE, last_content=None, last_tag=None)
    for content in (None, b"{", b"\xff"):
        with pytest.raises(DataError, match="missing or not valid JSON"):
            verdict_on(content, GATE, last_content=None, last_tag=None)
