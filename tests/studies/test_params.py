"""The file of a study: strict, and what its variants are."""

from pathlib import Path

import pytest

from flows.git import Repository
from flows.overrides import apply
from flows.studies.cells import find_study, study_of_text
from flows.studies.params import BASELINE, parse_study, read_text_of
from gan.errors import ParamsError, UserError
from gan.params import parse_section, parse_yaml
from gan.runtime import ANY, processor_kind
from gan.training.params import TrainParams

ROOT = Path(__file__).resolve().parents[2]

STUDY = """\
study:
  question: Is half or twice the learning rate better?
  stage: evaluate
  metrics:
    fid: {better: lower, smallest_difference: 3.0}
  seeds: {parameter: train.seed, first: 0, count: 5, most: 12}
  paired: false
  baseline: {set: lecture, overrides: []}
  variants:
    half: {set: null, overrides: [train.rate=0.5]}
  grid:
    rate: {parameters: [train.g.rate, train.d.rate], values: [0.5, 2]}
    units: {parameters: [train.units], values: [[64, 64], [128]]}
"""


@pytest.fixture
def read(tmp_path):
    (tmp_path / "studies").mkdir()

    def read(text=STUDY, name="rates"):
        (tmp_path / "studies/rates.yaml").write_text(text)
        return parse_study(read_text_of(tmp_path, name), name)

    return read


def test_a_grid_is_every_combination_on_top_of_the_baseline(read):
    study = read()
    variants = study.every_variant()
    assert list(variants) == [
        "baseline",
        "half",
        "rate=0.5,units=64_64",
        "rate=0.5,units=128",
        "rate=2,units=64_64",
        "rate=2,units=128",
    ]
    assert variants["rate=2,units=64_64"].overrides == ("train.g.rate=2", "train.d.rate=2", "train.units=[64, 64]")
    assert variants["rate=2,units=64_64"].set == "lecture" and variants["half"].set is None
    assert study.seeds.looks() == (5, 10, 12)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("question:", "qestion:", "study.qestion = .* is unknown; did you mean question?"),
        ("  paired: false\n", "", "study.paired is missing"),
        ("paired: false", "paired: maybe", "study.paired = 'maybe': input should be a valid boolean"),
        ("smallest_difference: 3.0", "smallest_difference: 0", "study.metrics.fid.smallest_difference = 0: .* greater than 0"),
        ("better: lower", "better: less", "study.metrics.fid.better = 'less'"),
        ("count: 5", "count: 1", "study.seeds.count = 1: .* greater than or equal to 2"),
        ("most: 12", "most: 4", "seeds.most = 4 is less than seeds.count = 5"),
        ("half: {set: null", "baseline: {set: null", "study: the variant 'baseline': what all variants are compared with has"),
        ("half: {set: null", "Ha lf: {set: null", "study: the variant 'Ha lf': expected small letters, digits, '_', '-' and "),
        ("half: {set: null", "ha..lf: {set: null", "study: the variant 'ha..lf': expected"),
        ("    fid: {", "    f d: {", "study: the metric 'f d': expected letters"),
        ("    rate: {", "    seed: {", "study: the axis 'seed': the table of runs has a column of this name"),
        ("set: lecture", "set: ../lecture", "study.baseline.set = '../lecture'"),
        ("train.rate=0.5", "train.seed=5", "train.seed is the seeds' own parameter"),
        ("[[64, 64], [128]]", "[1, '1']", "two points of the grid have the name rate=0.5,units=1"),
        ("[[64, 64], [128]]", str(list(range(101))), "204 variants; expected at most 200"),
        ("study:", "stdy:", "expected the section 'study' alone, got stdy"),
        ("study:", "study: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(read, old, new, message):
    assert STUDY.count(old) >= 1
    with pytest.raises(ParamsError, match=message) as error:
        read(STUDY.replace(old, new, 1))
    assert str(error.value).startswith("studies/rates.yaml") and "\n" not in str(error.value)


def test_values_of_a_grid_are_what_the_file_says(read):
    text = (
        STUDY[: STUDY.index("  grid:")]
        + """\
  grid:
    name: {parameters: [train.name], values: ["", "1e-3", "#x", "a: b", "1..2", 1.0e-5]}
"""
    )
    names, shown = list(read(text).every_variant())[2:], ["", "1e-3", "x", "a_b", "1._2", "1e-05"]
    assert names == [f"name={one}" for one in shown]
    changed = [parse_yaml(apply("train: {name: null}", one.overrides)) for one in list(read(text).every_variant().values())[2:]]
    assert [one["train"]["name"] for one in changed] == ["", "1e-3", "#x", "a: b", "1..2", 1e-5]


@pytest.mark.parametrize("name", ["my study", "a..b", "Rates", "a."])
def test_the_name_of_a_study_is_one_that_git_takes(tmp_path, name):
    (tmp_path / "studies").mkdir()
    (tmp_path / f"studies/{name}.yaml").write_text(STUDY)
    with pytest.raises(ParamsError, match="expected a name of small letters"):
        parse_study(read_text_of(tmp_path, name), name)


def test_a_study_may_be_of_the_baseline_alone(read):
    alone = STUDY[: STUDY.index("  variants:")] + "  variants: {}\n  grid: {}\n"
    assert list(read(STUDY).every_variant()) != [BASELINE] == list(read(alone).every_variant())


def test_a_study_that_is_not_there_is_one_line_with_those_that_are(read):
    with pytest.raises(UserError, match=r"there is no study 'others' in studies/; it has rates"):
        read(name="others")


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_run_of_every_study_is_one_for_this_machine(path):
    study = find_study(Repository.around(ROOT), path.stem)
    for name in study.variants:
        train = study.values(name)["train"]
        parse_section(train, "train", TrainParams)
        assert train["processor"] in (ANY, processor_kind())


def test_a_cell_is_the_same_wherever_it_is_made_for_the_same_machine():
    repository, text = Repository.around(ROOT), (ROOT / "studies/sets.yaml").read_text()
    here = study_of_text(repository, "sets", text, "HEAD")
    machine = {"processor": "MOS 6502", "instructions": "avx2", "compute_precision": "float32"}
    there = study_of_text(repository, "sets", text, "HEAD", machine)
    train = there.values("conditional-60s")["train"]
    assert {name: train[name] for name in machine} == machine
    assert here.cells("conditional-60s", 1)[0].key != there.cells("conditional-60s", 1)[0].key
    again = study_of_text(repository, "sets", text, "HEAD", here.machine)
    assert again.cells("conditional-60s", 1) == here.cells("conditional-60s", 1)
    assert here.cells("baseline", 1) == there.cells("baseline", 1)  # the lecture's set has the same bytes everywhere
