"""A state of the project by any of its names: real git, real DVC."""

import json
import re

import pytest

from flows.git import Repository
from flows.revisions import find
from gan.errors import DataError, UserError
from tests.helpers.toy_project import make_project


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path, ran=True)


def repository(project):
    return Repository(project.root)


def test_every_name_of_a_commit_finds_it(project):
    head = project.git("rev-parse", "HEAD")
    project.git("tag", "first")
    project.git("tag", "run/20250101T000000Z-abcdef01")
    for name in ("HEAD", "main", "first", head, head[:10], "run/20250101T000000Z-abcdef01", "abcdef01", "20250101"):
        found = find(repository(project), name)
        assert (found.commit, str(found)) == (head, name)


def test_the_working_tree_is_what_lies_there(project, tmp_path):
    project.set("steps: 3", "steps: 4")
    (project.root / "data/evaluation/metrics.json").write_text('{"fid": 1.0}')
    for name in (".", "workspace"):
        tree = find(repository(project), name)
        assert tree.commit is None and str(tree) == "the working tree"
        assert tree.metrics() == {"fid": 1.0}
        assert tree.params()["train"]["steps"] == 4
        assert tree.fetch("data/model/weights.txt", tmp_path / "x") == project.root / "data/model/weights.txt"
        assert tree.stale_params() == ["train.steps"]
    head = find(repository(project), "HEAD")
    assert head.metrics()["fid"] == 10.0 and head.params()["train"]["steps"] == 3 and head.stale_params() == []


def test_results_that_other_files_have_made_are_told(project):
    head, tree = (find(repository(project), name) for name in ("HEAD", "."))
    assert tree.stale_files() == head.stale_files() == []
    with open(project.root / "toy.py", "a") as file:
        file.write("# changed\n")
    assert tree.stale_files() == ["toy.py"] and head.stale_files() == []
    project.commit("Change the code, and run nothing")
    assert find(repository(project), "HEAD").stale_files() == ["toy.py"]
    # a run that was stopped between two stages, and a metrics file that is none of the lock's
    lock = (project.root / "dvc.lock").read_text()
    before, digest, after = lock.rpartition(re.search(r"path: data/model\n *hash: md5\n *md5: (\w+)", lock)[1])
    (project.root / "dvc.lock").write_text(f"{before}{digest[::-1]}{after}")
    (project.root / "data/evaluation/metrics.json").write_text('{"fid": 1.0}')
    assert set(tree.stale_files()) == {"data/evaluation/metrics.json", "data/model", "toy.py"}


@pytest.mark.slow
def test_an_experiment_and_its_data_are_found_by_its_name(project, tmp_path):
    project.run("dvc", "exp", "run", "--quiet", "--name", "tried", "--set-param", "train.steps=4")
    project.git("reset", "--quiet", "--hard")
    tried, head = (find(repository(project), name) for name in ("tried", "HEAD"))
    assert tried.commit != head.commit and tried.params()["train"]["steps"] == 4
    assert tried.fetch("data/model/weights.txt", tmp_path / "tried").read_text() == "0 4"
    assert head.fetch("data/model/weights.txt", tmp_path / "head").read_text() == "0 3"
    assert json.loads(tried.read("data/evaluation/metrics.json"))["nested"]["steps"] == tried.metrics()["nested.steps"] == 4


def test_of_several_experiments_with_one_name_the_nearest_counts(project):
    def commit(message):
        project.git("commit", "--quiet", "--allow-empty", "--message", message)
        return project.git("rev-parse", "HEAD")

    def record(base):
        project.git("checkout", "--quiet", "--detach", base)
        made = commit(f"tried at {base}")
        project.git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/tried", made)
        project.git("checkout", "--quiet", "main")
        return made

    bases = [project.git("rev-parse", "HEAD"), commit("second"), commit("third")]
    first, second = record(bases[0]), record(bases[1])
    assert find(repository(project), "tried").commit == second
    project.git("reset", "--quiet", "--hard", bases[0])
    assert find(repository(project), "tried").commit == first
    # a study's run is found without the end of its name; one of exactly this name comes before it
    for name in ("tried-0123abcd", "other-0123abcd"):
        project.git("update-ref", f"refs/exps/{bases[0][:2]}/{bases[0][2:]}/{name}", second)
    assert find(repository(project), "tried").commit == first and find(repository(project), "other").commit == second
    project.git("checkout", "--quiet", "--orphan", "elsewhere")
    commit("another beginning")
    with pytest.raises(UserError, match="several experiments have this name; give the commit"):
        find(repository(project), "tried")


def test_data_come_from_the_remote_and_else_their_absence_is_one_line(project, tmp_path):
    project.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    project.commit("Add a remote")
    project.run("dvc", "push", "--quiet")
    project.run("rm", "-r", ".dvc/cache", "data/model")
    head = find(repository(project), "HEAD")
    assert head.fetch("data/model/weights.txt", tmp_path / "a").read_text() == "0 3"
    project.run("rm", "-r", str(tmp_path / "store"))
    for revision, path in (
        (head, "data/model/weights.txt"),
        (head, "data/model/nosuch"),
        (find(repository(project), "."), "data/model/x"),
    ):
        with pytest.raises(DataError, match=path) as caught:
            find(repository(project), revision.name).fetch(path, tmp_path / "b")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["-x", "--all", "", "nosuch", "^main", "main..main", "HEAD:params.yaml", "*", "a b", "refs/exps"]
)
def test_what_names_nothing_is_refused_in_one_line(project, name):
    with pytest.raises(UserError) as caught:
        find(repository(project), name)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(repr(name) if name[:1] in ("", "-") else f"{name}: ")


def test_damaged_files_are_one_line(project):
    tree = find(repository(project), ".")
    (project.root / "data/evaluation/metrics.json").write_text("{")
    with pytest.raises(DataError, match="^the working tree: data/evaluation/metrics.json: not valid JSON$"):
        tree.metrics()
    (project.root / "dvc.yaml").write_text("stages: [")
    with pytest.raises(DataError, match="^dvc.yaml of the working tree: not valid YAML") as caught:
        tree.metrics()
    assert "\n" not in str(caught.value)
    (project.root / "dvc.yaml").unlink()
    assert tree.metrics() == {}
