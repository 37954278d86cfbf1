"""`gan study` on the toy project: real git, real DVC, runs that are stopped and begun again."""

import csv
import json
import re
import signal

import pytest

from flows.git import Repository
from flows.revisions import find
from flows.studies import records
from flows.studies.cells import find_study
from flows.studies.local import run_each
from flows.studies.progress import progress_of
from flows.studies.results import run_rows
from gan.errors import ParamsError, UserError
from tests.helpers.toy_project import make_project, wait_for

STUDY = """\
study:
  question: Do more steps or an offset help?
  stage: evaluate
  metrics:
    fid: {better: lower, smallest_difference: 0.15}
  seeds: {parameter: train.seed, first: 0, count: 2, most: 4}
  paired: false
  baseline: {set: null, overrides: []}
  variants:
    longer: {set: null, overrides: [train.steps=4]}
    worse: {set: short, overrides: [evaluate.offset=5.0]}
  grid: {}
"""
SET = "train:\n  steps: 2\n  seed: 9\n  delay_seconds: 0.0\n"
RUNS = 6  # three variants with two seeds


def make_study(folder, text=STUDY):
    project = make_project(folder, ran=True)
    for name, content in {"studies/steps.yaml": text, "sets/short.yaml": SET}.items():
        (project.root / name).parent.mkdir()
        (project.root / name).write_text(content)
    ignored = [".scratch/", "__pycache__/", *(f"/data/{name}" for name in ("raw", "normalized", "model", "gallery", "report"))]
    (project.root / ".gitignore").write_text("\n".join(ignored) + "\n")
    project.commit("Ask")
    return project


def trainings(output):
    return output.count("Running stage 'train'")


def experiments(project):
    return project.git("for-each-ref", "--format=%(refname)", "refs/exps").splitlines()


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def head_digest(project):
    return project.git("status", "--porcelain"), project.git("worktree", "list").count("\n")


def put(project, cell, text):
    """Record a cell as if it had been run, with metrics of this text."""
    base = project.git("rev-parse", "HEAD")
    path = "data/evaluation/metrics.json"
    (project.root / path).write_text(text)
    project.git("add", "--force", "--", path)
    message = f"a cell\n\nStudy-Cell: {cell.key}\nSeconds: 1.0\nMetrics-File: {path}\n"
    commit = project.git("commit-tree", project.git("write-tree"), "-p", base, "-m", message)
    project.git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{cell.experiment}", commit)
    project.git("reset", "--quiet", "--hard")


def put_all(project, study, values):
    """Record cells with these numbers of `fid`; values: variant -> a value for each seed, None for none."""
    for variant, some in values.items():
        for cell, value in zip(study.cells(variant, len(some)), some, strict=True):
            if value is not None:
                put(project, cell, json.dumps({"fid": value}))


@pytest.mark.slow(seconds=50)
@pytest.mark.timeout(900)
def test_a_study_that_is_stopped_goes_on_and_trains_nothing_twice(tmp_path):
    project = make_study(tmp_path)
    before = head_digest(project)

    plan = project.gan("study", "plan", "steps").stdout
    assert "6 runs: 3 variants, 2 seeds each" in plan
    assert "1 are done or cached, 5 are to be run" in plan  # the project's own run is the baseline's first seed
    assert "up to 12 runs, judged at 2, 4 seeds" in plan

    # stop it in the middle of a training
    process = project.start("run", "steps", "--verbose", program=("commands", "study"), log="first.log", group=True)
    wait_for(lambda: re.search(r"\[2/5\] .*, seed \d: ", project.log("first.log")), 240, "two runs")
    (project.control / "hold-train").touch()  # held, a training ends by the signal alone
    wait_for(project.training_listens, what="a training")
    process.send_signal(signal.SIGINT)
    wait_for(lambda: "stopping, up to 8 s" in project.log("first.log"), what="the stop")
    assert process.wait(60) == 130
    (project.control / "hold-train").unlink()
    first = project.log("first.log")
    assert "saved at step" in first
    assert not project.processes() and head_digest(project) == before
    recorded = len(experiments(project))
    assert trainings(first) == recorded and 3 <= recorded < RUNS  # the baseline's first seed, and one that was cut off

    # the stopped training goes on, and what was recorded is not run again
    second = project.gan("study", "resume", "steps", "--verbose").stdout
    assert "resumed at step" in second
    assert trainings(second) == RUNS - recorded
    assert len(experiments(project)) == RUNS
    assert "worse, fid: worse by" in second and "longer, fid: undecided, between" in second
    assert head_digest(project)[1] == before[1]

    # another commit that changes no input, then no record at all: the run cache has everything
    (project.root / "notes.md").write_text("worse is worse")
    project.commit("Take notes")
    assert trainings(project.gan("study", "run", "steps", "--verbose").stdout) == 0
    for ref in experiments(project):
        project.git("update-ref", "-d", ref)
    assert "6 are done or cached, 0 are to be run" in project.gan("study", "plan", "steps").stdout
    assert len(experiments(project)) == RUNS

    # the undecided variant and the baseline alone get more seeds
    more = project.gan("study", "run", "steps", "--until-decided", "--verbose").stdout
    assert trainings(more) == 4 and re.search(r"baseline +4 ", more) and re.search(r"worse +2 ", more)
    shown = project.run("dvc", "exp", "list", "--all-commits").stdout
    assert shown.count("steps-") == RUNS + 4

    folder = project.root / "data/studies/steps"
    rows = read_csv(folder / "runs.csv")
    assert len(rows) == RUNS + 4
    # as toy.py computes it: 10 + offset + (seed % 7) / 10, whatever the steps
    assert {(row["variant"], row["seed"]): float(row["fid"]) for row in rows} == {
        (variant, str(seed)): pytest.approx(10 + offset + seed / 10)
        for variant, offset, seeds in (("baseline", 0, 4), ("longer", 0, 4), ("worse", 5, 2))
        for seed in range(seeds)
    }
    by_variant = {row["variant"]: row for row in read_csv(folder / "comparisons.csv")}
    assert by_variant["worse"]["verdict"] == "worse" and float(by_variant["worse"]["difference"]) == pytest.approx(5.0)
    assert by_variant["longer"]["seeds"] == "4" and float(by_variant["longer"]["correlation_over_seeds"]) == pytest.approx(1.0)
    page = (folder / "index.html").read_text()
    assert "Do more steps or an offset help?" in page and by_variant["worse"]["sentence"] in page and "<svg" in page
    metrics = json.loads(project.run("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    assert metrics["data/studies/steps/metrics.json"]["data"]["worse"]["fid"]["difference"] == pytest.approx(5.0)
    assert project.run("dvc", "plots", "show", "--out", "plots").returncode == 0

    table = project.gan("study", "table", "steps", "-m", "nested.steps").stdout.splitlines()
    assert table[0] == "| variant | seeds | FID | nested.steps | FID against baseline |" and len(table) == 5
    assert table[4].startswith("| `worse` | 2 | 15.000 – 15.100 | 2 | worse by ") and by_variant["worse"]["sentence"] in table[4]
    refused = project.gan("study", "table", "steps", "-m", "recal", check=False)
    assert refused.returncode == 1 and "no run has a metric 'recal'; there are fid, nested.steps" in refused.stderr

    # two runs compare as any two experiments do
    compared = project.gan("versions", "compare", "steps-baseline-s0", "steps-worse-s0")
    assert "evaluate.offset: 0.0 -> 5.0" in compared.stdout and "other values" not in compared.stderr


@pytest.mark.slow(seconds=25)
def test_a_run_that_fails_stops_no_other_and_is_tried_again(tmp_path):
    text = STUDY.replace("longer: {set: null, overrides: [train.steps=4]}", "bad: {set: null, overrides: [train.steps=0]}")
    project = make_study(tmp_path, text.replace("most: 4", "most: 2"))
    done = project.gan("study", "run", "steps", check=False)
    assert done.returncode == 1
    assert "bad, seed 0: failed: params.yaml: train.steps = 0: expected a whole number from 1" in done.stdout
    assert "2 of the runs failed; the same command tries them again" in done.stderr
    assert "bad, fid: no verdict yet: 2 runs are missing" in done.stdout and "worse, fid: worse" in done.stdout
    assert len(experiments(project)) == 4


def test_what_the_system_refuses_fails_a_run_and_stops_no_other(tmp_path):
    project = make_study(tmp_path)
    study = find_study(Repository(project.root), "steps")
    (project.root / ".dvc/tmp/flow.lock").mkdir()
    failures = [outcome.failure for outcome in run_each(study, study.cells("longer", 2), log=print)]
    assert len(failures) == 2 and all("Is a directory" in failure for failure in failures)
    lines = project.gan("study", "run", "steps", check=False).stdout.splitlines()[: 2 * RUNS]
    assert lines[:2] == ["[1/6] baseline, seed 0 …", next(line for line in lines if "baseline, seed 0: failed" in line)]
    assert [line.partition("]")[0] for line in lines] == [f"[{number}/6" for number in range(1, 7) for _ in range(2)]


@pytest.mark.slow(seconds=8)
def test_a_study_of_the_baseline_alone_says_how_bad_a_run_may_be(tmp_path):
    text = STUDY[: STUDY.index("  variants:")].replace("count: 2, most: 4", "count: 3, most: 3") + "  variants: {}\n  grid: {}\n"
    project = make_study(tmp_path, text)
    planned = project.gan("study", "plan", "steps").stdout
    assert "3 runs: seeds of the baseline, at commit" in planned and "no more than 63 % of all runs are worse" in planned
    # the project has run once with seed 0, which the plan has taken in
    assert "baseline, fid: no verdict yet: 2 runs are missing" in project.gan("study", "status", "steps").stdout
    shown = project.gan("study", "run", "steps").stdout
    runs = read_csv(project.root / "data/studies/steps/runs.csv")
    worst = max(float(run["fid"]) for run in runs)
    said = f"{worst:.4g} at worst of 3 runs; at most 63.2 % of all runs are worse than that"
    assert [run["seed"] for run in runs] == ["0", "1", "2"] and f"baseline, fid: {said}" in shown
    page = (project.root / "data/studies/steps/index.html").read_text()
    assert said in page and "Wilks 1941" in page and "ifference to the baseline" not in page
    header, _, row = project.gan("study", "table", "steps").stdout.splitlines()
    assert header == "| variant | seeds | FID |" and row.startswith("| `baseline` | 3 |")
    assert json.loads((project.root / "data/studies/steps/spreads.json").read_text())[0]["metrics"]["fid"]["seeds"] == 3


def test_cells_are_keyed_by_what_their_metrics_depend_on(tmp_path):
    project = make_study(tmp_path)
    repository = Repository(project.root)

    def keys():
        study = find_study(repository, "steps")
        return {name: [cell.key for cell in study.cells(name, 2)] for name in study.variants}

    before = keys()
    assert len({key for some in before.values() for key in some}) == RUNS
    project.set("margin: 2.0", "margin: 3.0")
    (project.root / "notes.md").write_text("a new file")
    project.commit("Change what no stage before evaluate reads")
    assert keys() == before
    (project.root / "toy.py").write_text((project.root / "toy.py").read_text() + "\n")
    project.commit("Change the code")
    after = keys()
    assert not {key for some in before.values() for key in some} & {key for some in after.values() for key in some}
    text = (project.root / "dvc.yaml").read_text()
    (project.root / "dvc.yaml").write_text(text.replace("cmd: python toy.py evaluate", "cmd: python toy.py evaluate again"))
    project.commit("Change a command")
    assert not {key for some in after.values() for key in some} & {key for some in keys().values() for key in some}
    assert records.every(repository) == {}
    assert [one.verdict for one in progress_of(find_study(repository, "steps")).comparisons] == ["pending", "pending"]


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("train.steps=4", "train.steps=3", ParamsError, "study steps: longer has the same parameters as the baseline"),
        ("train.steps=4", "train.step=4", ParamsError, "study steps: longer: override train.step: .* did you mean train.steps"),
        ("set: short", "set: long", UserError, "has no sets/long.yaml; commit it first"),
        ("stage: evaluate", "stage: evaluation", ParamsError, "there is no stage 'evaluation' in dvc.yaml; it has fetch"),
        ("train.seed,", "train.sed,", ParamsError, "override train.sed: .* did you mean train.seed"),
    ],
)
def test_what_is_wrong_with_a_study_is_one_line(tmp_path, old, new, error, message):
    project = make_study(tmp_path, STUDY.replace(old, new))
    with pytest.raises(error, match=message):
        find_study(Repository(project.root), "steps")


def test_records_of_other_parameters_are_kept_beside_each_other(tmp_path):
    project = make_study(tmp_path)
    repository, file = Repository(project.root), project.root / "studies/steps.yaml"
    first = find_study(repository, "steps")
    put_all(project, first, {"longer": [10.0, 11.0]})
    file.write_text(STUDY.replace("train.steps=4", "train.steps=5"))
    edited = find_study(repository, "steps")
    assert [cell.name for cell in edited.cells("longer", 2)] == [cell.name for cell in first.cells("longer", 2)]
    put_all(project, edited, {"longer": [12.0, 13.0]})
    assert progress_of(edited).values("longer", "fid") == [12.0, 13.0]
    assert progress_of(first).values("longer", "fid") == [10.0, 11.0]
    refused = project.gan("versions", "compare", "steps-longer-s0", ".", check=False)
    assert refused.returncode == 1 and "several experiments have this name" in refused.stderr
    assert find(repository, edited.cells("longer", 1)[0].experiment).metrics() == {"fid": 12.0}


def test_a_look_that_lacks_a_run_gets_that_one_first(tmp_path):
    project = make_study(tmp_path, STUDY.replace("most: 4", "most: 8"))
    study = find_study(Repository(project.root), "steps")
    near = [10.0, 11.0, 10.5, 10.2]  # undecided at two seeds and at four
    put_all(project, study, {"baseline": near, "longer": [10.1, 10.9, 10.6, None], "worse": [10.2, 11.1, 10.4, 10.3]})
    wanted = progress_of(study).missing(until_decided=True)
    assert [(cell.variant, cell.seed) for cell in wanted] == [("longer", 3)]
    # where it has failed, the others go on without it
    wanted = progress_of(study).missing(until_decided=True, failed={wanted[0].key})
    assert {(cell.variant, cell.seed) for cell in wanted} == {
        (name, seed) for name in ("baseline", "worse") for seed in range(4, 8)
    }
    failed = {study.cells("baseline", 5)[4].key}  # without the baseline's fifth nothing can be judged at eight
    assert [cell.variant for cell in progress_of(study).missing(until_decided=True, failed=failed)] == ["longer"]


@pytest.mark.parametrize("text", ['{"fid": NaN}', '{"fid": Infinity}', '{"fid": "10"}', '{"kid": 1.0, "kid_std": 0.1}'])
def test_a_run_without_a_finite_number_is_one_line(tmp_path, text):
    project = make_study(tmp_path)
    study = find_study(Repository(project.root), "steps")
    put(project, study.cells("worse", 1)[0], text)
    for command in ("status", "plan"):
        told = project.gan("study", command, "steps", check=False)
        there = "kid" if "kid" in text else "none"
        assert told.returncode == 1 and "Traceback" not in told.stderr
        assert re.search(rf"study steps: steps-worse-s0-\w+ has no finite number 'fid'; there are {there}$", told.stderr.strip())


def test_a_metric_that_no_run_has_ends_the_study_at_the_first_run(tmp_path):
    project = make_study(tmp_path, STUDY.replace("fid: {better", "fidd: {better"))
    told = project.gan("study", "run", "steps", check=False)
    assert told.returncode == 1 and "has no finite number 'fidd'; there are fid, nested.steps" in told.stderr
    assert "[1/" in told.stdout and "[2/" not in told.stdout


@pytest.mark.parametrize(
    ("metric", "hint"),
    [("fidd", "have no 'fidd'; did you mean fid?"), ("xyzzy", "have no 'xyzzy'"), ("fid", ""), ("fid_large_sample", "")],
)
def test_a_metric_that_nobody_knows_is_named_before_anything_runs(tmp_path, metric, hint):
    project = make_study(tmp_path, STUDY.replace("fid: {better", f"{metric}: {{better"))
    study = find_study(Repository(project.root), "steps")
    for variant in study.variants:
        for cell in study.cells(variant, 2):
            put(project, cell, json.dumps({metric: 10.0}))
    told = project.gan("study", "plan", "steps").stderr.strip()
    assert told == (f"study steps: the metrics of commit {study.base[:12]} {hint}" if hint else "")


def test_a_plan_of_pairs_is_made_with_the_spread_of_pairs(tmp_path):
    project = make_study(tmp_path, STUDY.replace("paired: false", "paired: true").replace("count: 2", "count: 3"))
    study = find_study(Repository(project.root), "steps")
    values = {"baseline": [10.0, 20.0, 30.0], "longer": [11.0, 21.01, 31.0], "worse": [10.1, 20.11, 30.1]}
    put_all(project, study, values)
    assert re.search(
        r"the smallest that matters, 0.15, takes \d+ seeds a variant \(deviation over pairs 0.0041\)",
        project.gan("study", "plan", "steps").stdout,
    )


def test_an_axis_may_have_the_name_of_a_metric(tmp_path):
    grid = "  grid:\n    kid: {parameters: [evaluate.offset], values: [1.0, 2.0]}\n"
    project = make_study(tmp_path, STUDY.replace("  grid: {}\n", grid))
    study = find_study(Repository(project.root), "steps")
    put(project, study.cells("baseline", 1)[0], '{"fid": 10.0, "kid": 0.5}')
    [row] = run_rows(progress_of(study))
    assert (row["kid"], row["kid (axis)"]) == (0.5, 0.0)


@pytest.mark.slow(seconds=3)
def test_a_clone_prints_the_table_of_the_committed_runs(tmp_path):
    project = make_study(tmp_path)
    folder = project.root / "data/studies/steps"
    folder.mkdir(parents=True)
    runs = ["variant,seed,fid,mode,commit", "baseline,0,10.0,a,1e5", "baseline,1,10.5,a,2e5", "worse,0,15.25,a,3e5"]
    (folder / "runs.csv").write_text("\n".join(runs) + "\n")
    (folder / "comparisons.csv").write_text("variant,metric,sentence\nworse,fid,worse by 4 to 6\n")
    shown = project.gan("study", "table", "steps")
    assert shown.stdout.splitlines()[2:] == [
        "| `baseline` | 2 | 10.00 – 10.50 |  |",
        "| `worse` | 1 | 15.25 | worse by 4 to 6 |",
    ]
    assert "no run of commit" in shown.stderr and "as data/studies/steps has it" in shown.stderr

    # fewer runs replace no results, unless that is what is wanted; and then there is no picture of others
    (folder / "samples.png").write_bytes(b"of other runs")
    put_all(project, find_study(Repository(project.root), "steps"), {"baseline": [11.0, 12.0]})
    before = {path: path.read_bytes() for path in folder.iterdir()}
    refused = project.gan("study", "report", "steps", check=False)
    told = "data/studies/steps tells of 3 runs, and 2 are recorded here"
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", f"gan: {told}; --force replaces it\n")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    again = project.gan("study", "table", "steps")
    assert again.stdout == shown.stdout and "more than the 2 recorded runs of commit" in again.stderr
    project.gan("study", "report", "steps", "--force")
    assert not (folder / "samples.png").exists() and len(read_csv(folder / "runs.csv")) == 2
    assert project.gan("study", "table", "steps").stdout.splitlines()[2] == "| `baseline` | 2 | 11.0 – 12.0 |  |"


@pytest.mark.slow(seconds=3)
@pytest.mark.parametrize("more", [0, 1])
def test_a_study_that_ends_with_fewer_runs_than_are_written_leaves_them_and_says_so(tmp_path, more):
    project = make_study(tmp_path)
    folder = project.root / "data/studies/steps"
    folder.mkdir(parents=True)
    runs = ["variant,seed,fid,commit", *(f"baseline,{seed},10.0,1e5" for seed in range(RUNS + more))]
    (folder / "runs.csv").write_text("\n".join(runs) + "\n")
    values = {"baseline": [10.0, 10.1], "longer": [10.0, 10.1], "worse": [15.0, 15.1]}
    put_all(project, find_study(Repository(project.root), "steps"), values)
    done = project.gan("study", "run", "steps")
    assert ("`gan study report steps --force` replaces it" in done.stderr) == bool(more)
    assert (folder / "index.html").exists() != bool(more)
    assert "worse, fid: worse by" in done.stdout
