"""Isolated runs and the versions that they record: exact commits, bytes given back, pushes, pruning."""

import base64
import datetime
import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from flows.git import Repository
from flows.request import RunRequest
from flows.versions import Version, start_from_newest, tag_name
from gan.errors import ParamsError
from tests.flows.test_sharing import record
from tests.helpers.toy_project import Project, Runs, make_project, run_id, server_url


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path, ran=True, api_url=server_url())


def versions(project, *arguments):
    return project.gan("versions", *arguments).stdout


def listed(project):
    return json.loads(versions(project, "list", "--json"))


def snapshot(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.slow(seconds=12)
def test_an_isolated_run_neither_sees_nor_touches_edits_and_records_only_changes(project):
    head = project.git("rev-parse", "HEAD")
    edited = (project.root / "toy.py").read_text().replace("<h1>", "<h2>")
    (project.root / "toy.py").write_text(edited)
    (project.root / "notes.txt").write_text("staged")
    project.git("add", "notes.txt")
    before = snapshot(project.root / "data"), project.git("status", "--short")

    done = project.pipeline("--isolated")
    assert done.stdout.strip() == "Cached: nothing changed"
    assert project.git("tag") == ""

    done = project.pipeline("--isolated", "--set", "train.steps=4")
    note = "params.yaml: note: four steps are none for this machine"
    assert done.stderr.count(note) == 1
    assert (snapshot(project.root / "data"), project.git("status", "--short")) == before
    assert (project.root / "toy.py").read_text() == edited
    assert project.git("rev-parse", "HEAD") == head
    assert len(project.git("worktree", "list").splitlines()) == 1
    [version] = listed(project)
    assert version["tag"].startswith("run/") and version["base"] == head
    assert version["flow_run"] == run_id(done.stderr)
    assert version["metrics"] == {"fid": 10.0, "fid_std": 0.5, "nested.steps": 4}
    assert version["accepted_as"] == "generator@v1.0.0"
    changed = project.git("diff", "--name-only", f"{version['tag']}~", version["tag"]).split()
    assert changed == ["data/evaluation/metrics.json", "dvc.lock", "params.yaml"]

    # the same again: everything is as the newest version has it
    done = project.pipeline("--isolated", "--set", "train.steps=4")
    assert done.stdout.strip() == "Cached: nothing changed"
    assert note not in done.stderr
    assert len(listed(project)) == 1


@pytest.mark.slow(seconds=10)
def test_a_previous_version_whose_parameters_cannot_be_read_costs_no_run(project):
    base = project.git("rev-parse", "HEAD")
    (project.root / "params.yaml").write_text("train: [")
    project.commit("A version that somebody broke")
    tag = "run/20260101T000000Z-0123abcd"
    project.git("tag", "--annotate", "--message", f"{tag}\n\nBase-Commit: {base}\n", tag)
    project.git("reset", "--quiet", "--hard", base)
    done = project.pipeline("--isolated", "--set", "train.steps=4")
    assert done.stdout.startswith("Completed: ") and "no artifacts, or not all: params.yaml" in done.stderr, done.stderr


@pytest.mark.slow(seconds=12)
def test_an_isolated_run_that_an_alias_of_git_starts_in_a_linked_worktree_works_in_its_own(project, tmp_path):
    linked = tmp_path / "linked"
    project.git("worktree", "add", "--quiet", "-b", "mine", str(linked))
    before = project.git("rev-parse", "main", "mine")
    command = f"!{sys.executable} -m commands flow --isolated --set train.steps=4"
    done = project.run("git", "-C", str(linked), "-c", f"alias.draw={command}", "draw")
    assert "train Ran" in done.stdout and "recorded as run/" in done.stdout
    assert project.git("rev-parse", "main", "mine") == before
    assert project.git("-C", str(linked), "status", "--short") == ""
    [version] = listed(project)
    assert version["metrics"]["nested.steps"] == 4


@pytest.mark.slow(seconds=20)
def test_versions_are_given_back_compared_shown_and_pruned(project):
    kept = {}
    for steps, offset in ((4, 0.0), (5, 5.0), (6, 5.5)):
        project.pipeline("--isolated", "--set", f"train.steps={steps}", "--set", f"evaluate.offset={offset}")
    newest, middle, oldest = listed(project)
    assert [item["gate"] for item in (newest, middle, oldest)] == ["worse", "worse", "accepted"]
    assert [item["accepted_as"] for item in (newest, middle, oldest)] == [None, None, "generator@v1.0.0"]

    shown = [Runs(server_url()).artifacts(item["flow_run"]) for item in (newest, middle, oldest)]
    tables = [{row["metric"]: row for row in json.loads(one["metrics"]["data"])} for one in shown]
    assert [(table["fid"]["change"], table["fid"]["beyond noise"]) for table in tables] == [
        ("+0.5", "no"),
        ("+5", "yes"),
        ("", "–"),
    ]
    assert tables[0]["fid"] | {"value": 15.5, "noise": 0.5, "previous": 15.0} == tables[0]["fid"]
    assert tables[0]["nested.steps"]["beyond noise"] == "–"
    assert f"beside {middle['tag']}; beyond noise: fid by more than 2 standard" in shown[0]["metrics"]["description"]
    # each toy picture is one gray, the number of steps: the previous one's, this one's, and the difference
    with Image.open(io.BytesIO(base64.b64decode(shown[0]["beside-previous"]["data"].partition(",")[2]))) as sheet:
        grays = [sheet.getpixel((x, 10)) for x in range(10, sheet.width, sheet.width // 3)]
    assert grays == [(5, 5, 5), (6, 6, 6), (1, 1, 1)]
    assert "beside-previous" not in shown[2]

    def restore(tag):
        project.git("checkout", "--quiet", tag)
        project.run("dvc", "checkout", "--force")
        assert project.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
        return {name: snapshot(project.root / "data" / name) for name in ("gallery", "report", "model", "evaluation")}

    for item in (newest, middle, oldest):
        kept[item["tag"]] = restore(item["tag"])
    assert kept[newest["tag"]]["model"]["weights.txt"] == b"0 6"
    assert kept[newest["tag"]] != kept[middle["tag"]] != kept[oldest["tag"]]
    difference = json.loads(project.run("dvc", "metrics", "diff", "--json", oldest["tag"], newest["tag"]).stdout)
    assert difference["data/evaluation/metrics.json"]["fid"] == {"old": 10.0, "new": 15.5, "diff": 5.5}

    compared = versions(project, "compare", oldest["tag"], newest["tag"])
    assert "+5.5" in compared and "  train.steps: 4 -> 6" in compared
    assert compared.splitlines()[1].split()[-2:] == ["+5.50", "yes"]  # two noises of 0.5 and a margin of 2 explain 1.41
    assert "worse by 5.50, more than the 1.41 that noise explains" in compared
    shown = versions(project, "show", "generator@v1.0.0")
    assert oldest["tag"] in shown and "nested.steps  4" in shown
    table = versions(project, "list").splitlines()
    assert len(table) == 4 and table[1].split()[:3] == [newest["tag"], "15.5", "0.5"]

    project.git("checkout", "--quiet", "main")
    project.run("dvc", "checkout", "--force")
    assert f"would delete {middle['tag']}" in versions(project, "prune", "--keep", "1", "--dry-run")
    assert len(listed(project)) == 3
    assert "Removed" in versions(project, "prune", "--keep", "1")
    assert [item["tag"] for item in listed(project)] == [newest["tag"], oldest["tag"]]
    for item in (newest, oldest):
        assert restore(item["tag"]) == kept[item["tag"]]


def test_runs_go_on_from_the_newest_version_until_somebody_commits_a_lock_of_their_own(tmp_path):
    project = make_project(tmp_path, ran=True)
    repository = Repository(project.root)
    tag = record(repository, 1, fid=9.0, accepted_as=None)

    def start_after(path):
        (project.root / path).write_text((project.root / path).read_text() + "# mine\n")
        project.commit(f"Change {path}")
        return start_from_newest(repository, repository, project.git("rev-parse", "main"))

    assert start_after("toy.py") == tag
    assert project.git("diff", "--name-only", tag, "--", "data", "dvc.lock") == ""
    project.git("checkout", "--quiet", "main", "--", "data", "dvc.lock")
    assert start_after("dvc.lock") is None
    assert project.git("status", "--short") == ""


@pytest.mark.slow
def test_what_is_only_here_is_not_pruned_whatever_the_remote_is_called(tmp_path):
    project = make_project(tmp_path)
    old, new = tags = [f"run/2026010{day}T000000Z-0123abcd" for day in (1, 2)]
    for tag in tags:
        project.git("tag", tag)
        project.git("update-ref", f"refs/pipeline/unpushed/{tag}", tag)
    project.run("git", "init", "--quiet", "--bare", str(tmp_path / "git.git"))
    project.git("remote", "add", "upstream", str(tmp_path / "git.git"))

    def refused():
        done = project.gan("versions", "prune", "--keep", "1", check=False)
        assert done.returncode == 1 and project.git("tag").split() == tags
        return done.stderr.strip()

    assert refused() == f"gan: {old} is not pushed, and git has no remote 'origin' (flow.git_remote in params.yaml)"
    project.set("git_remote: origin", "git_remote: upstream")
    assert refused() == f"gan: {old} is not pushed yet; the next run pushes it, prune after that"
    project.git("push", "--quiet", "upstream", *tags)
    project.git("update-ref", "-d", f"refs/pipeline/unpushed/{old}")
    versions(project, "prune", "--keep", "1", "--remote")
    assert project.git("tag") == new
    assert project.git("ls-remote", "--tags", "upstream").endswith(f"\trefs/tags/{new}")
    assert old not in project.git("ls-remote", "--tags", "upstream")


@pytest.mark.slow(seconds=25)
def test_a_failed_push_is_reported_and_done_by_the_next_run(project, tmp_path):
    project.run("git", "init", "--quiet", "--bare", str(tmp_path / "git.git"))
    store = tmp_path / "store"
    project.run("dvc", "remote", "add", "--default", "store", str(store))
    project.commit("Add a remote")
    project.git("remote", "add", "origin", str(tmp_path / "elsewhere.git"))
    project.run("dvc", "push")
    objects = len(list(store.rglob("*")))

    done = project.pipeline("--isolated", "--set", "train.steps=4", check=False)
    assert done.returncode == 1 and done.stdout.startswith("NotPushed: ")
    found = run_id(done.stderr)
    assert Runs(server_url()).state(found) == ("FAILED", "NotPushed")
    [version] = listed(project)
    assert not version["pushed"]

    project.git("remote", "set-url", "origin", str(tmp_path / "git.git"))
    # now git is in reach and the data are not: data go first, so no tag may arrive
    project.run("chmod", "-R", "a-w", str(store))
    store.rename(tmp_path / "away")
    store.write_text("a file where the store should be")
    done = project.pipeline("--isolated", "--set", "train.steps=4", check=False)
    assert done.returncode == 1
    assert project.git("ls-remote", "--tags", "origin") == ""
    store.unlink()
    (tmp_path / "away").rename(store)
    project.run("chmod", "-R", "u+w", str(store))

    done = project.pipeline("--isolated", "--set", "train.steps=4")
    assert done.stdout.strip() == "Cached: nothing changed"
    assert [item["pushed"] for item in listed(project)] == [True]
    assert len(list(store.rglob("*"))) > objects
    assert version["tag"] in project.git("ls-remote", "--tags", "origin")
    assert "generator@v1.0.0" in project.git("ls-remote", "--tags", "origin")

    # another machine: clone, pull, and the run is there; a run there starts from that version and has nothing to do
    project.git("push", "--quiet", "origin", "main")
    other = Project(tmp_path / "clone", server_url())
    other.environment["PREFECT_HOME"] = project.environment["PREFECT_HOME"]
    other.root.mkdir()
    other.run("git", "clone", "--quiet", str(tmp_path / "git.git"), ".")
    other.git("checkout", "--quiet", version["tag"])
    other.run("dvc", "pull")
    assert (other.root / "data/model/weights.txt").read_text() == "0 4"
    other.run("rm", "-r", "data", ".dvc/cache")
    other.git("checkout", "--quiet", "--force", "main")
    done = other.pipeline("--isolated", "--set", "train.steps=4")
    assert "Ran" not in done.stdout and len(listed(other)) == 1


@pytest.mark.slow
def test_a_run_in_the_users_tree_commits_on_request_without_staged_edits(project):
    (project.root / "notes.txt").write_text("mine")
    project.git("add", "notes.txt")
    done = project.pipeline("--commit", "--set", "train.steps=4", "--stage", "train")
    [version] = listed(project)
    assert version["gate"] == "partial" and version["accepted_as"] is None, done.stdout
    assert project.git("rev-parse", "HEAD") == version["commit"]
    assert project.git("status", "--short") == "A  notes.txt"
    done = project.pipeline("--commit")
    assert [item["gate"] for item in listed(project)] == ["accepted", "partial"]


@pytest.mark.slow(seconds=12)
def test_what_a_branch_has_is_a_version_beside_the_same_of_an_isolated_run(project, tmp_path):
    project.run("git", "init", "--quiet", "--bare", str(tmp_path / "git.git"))
    project.git("remote", "add", "origin", str(tmp_path / "git.git"))
    project.run("dvc", "install")  # hooks that would end a run's worktree, and each push where DVC has no remote
    project.pipeline("--isolated", "--set", "train.steps=4")
    done = project.pipeline("--commit", "--set", "train.steps=4")
    newest, first = listed(project)
    assert f"recorded as {newest['tag']}" in done.stdout and newest["base"] == first["base"]
    assert newest["pushed"] and newest["accepted_as"] == "generator@v1.1.0"
    assert project.git("rev-parse", "main") == project.git("rev-parse", newest["tag"] + "^{commit}")
    pushed = project.git("ls-remote", "--tags", "origin")
    assert all(item[name] in pushed for item in (first, newest) for name in ("tag", "accepted_as"))


@pytest.mark.parametrize(
    ("timezone", "dates"),
    [("UTC", ["20260329", "20260329"]), ("Europe/Berlin", ["20260329", "20260330"]), ("Asia/Tokyo", ["20260329", "20260330"])],
)
def test_a_dated_seed_has_the_date_of_the_schedules_time_zone(timezone, dates):
    # half past one at night in Berlin, before and after the clocks change
    moments = [datetime.datetime(2026, 3, 29, hour, 30, tzinfo=datetime.UTC) for hour in (0, 23)]
    request = RunRequest(dated_seed="train.seed", timezone=timezone)
    assert [request.on(moment).overrides for moment in moments] == [(f"train.seed={date}",) for date in dates]
    with pytest.raises(ParamsError, match="there is no time zone 'Europe/Berlim'"):
        RunRequest(dated_seed="train.seed", timezone="Europe/Berlim").on(moments[0])


def test_a_date_is_a_seed_of_training():
    request = RunRequest(dated_seed="train.seed", isolated=False).on(datetime.datetime(2099, 12, 31, tzinfo=datetime.UTC))
    root = Path(__file__).resolve().parents[2]
    request.parameters(Repository(root)).check(root)


@pytest.mark.slow
def test_a_dated_seed_is_drawn_from_the_day_of_the_run(project):
    project.pipeline("--isolated", "--dated-seed", "train.seed")
    [version] = listed(project)
    seed = project.git("show", f"{version['tag']}:params.yaml").partition("seed: ")[2].split()[0]
    day = Runs(server_url()).flow_run(version["flow_run"])["expected_start_time"][:10]  # the tag may be of the day after
    assert seed == day.replace("-", "")


def named(tag):
    fields = dict.fromkeys(("commit", "flow_run", "base", "gate", "gate_message"), "")
    return Version(tag=tag, accepted_as=None, metrics_files=(), pushed=True, **fields)


@pytest.mark.parametrize(
    ("previous", "stamp"),
    [
        ("run/29991231T235958Z-0123abcd", "29991231T235959Z"),
        ("run/20000101T000000Z-0123abcd", None),
        ("run/99991231T235959Z-0123abcd", None),  # there is no later time
        ("run/20000199T000000Z-0123abcd", None),
        ("run/by-hand", None),
        (None, None),
    ],
)
def test_a_versions_name_comes_after_the_newest_ones_wherever_the_clock_stands(previous, stamp):
    before = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}"
    tag = tag_name("fedcba9876543210", named(previous) if previous else None)
    now, _, flow_run = tag.removeprefix("run/").partition("-")
    assert flow_run == "fedcba98"
    if stamp:
        assert now == stamp
    else:
        assert before <= now < "2999"
