"""What one machine has made of a study, another restores: cells by their records, and all that a version was made of."""

import shutil

import pytest

from flows import remotes
from flows.dvc.reproduce import StageFailed
from flows.git import Repository
from flows.metrics import recorded_metrics
from flows.studies import one_cell, records
from flows.studies.cells import find_study
from flows.studies.local import collect, run_one
from gan.errors import UserError
from tests.flows.test_damage import cached, flip_a_bit
from tests.studies.test_study import STUDY, make_study


def make_shared_study(folder, **studies):
    """The toy study with a git and a DVC remote: (project, its Repository, that of a fresh clone). studies: more files."""
    project = make_study(folder)
    for name, text in studies.items():
        (project.root / f"studies/{name}.yaml").write_text(text)
    project.run("dvc", "remote", "add", "--quiet", "--default", "store", str(folder / "store"))
    project.commit("Share")
    project.run("git", "clone", "--quiet", "--bare", str(project.root), str(folder / "origin.git"))
    project.git("remote", "add", "origin", str(folder / "origin.git"))
    there = Repository(folder / "there")
    project.run("git", "clone", "--quiet", str(folder / "origin.git"), str(there.root))
    return project, Repository(project.root), there


def stages_of(lines):
    """The stages that ran, by the lines of a log."""
    return [line.split("'")[1] for line in lines if line.startswith("Running stage")]


@pytest.mark.slow(seconds=25)
def test_a_fresh_clone_trains_nothing_that_a_cell_or_a_version_of_another_has_trained(tmp_path):
    # the training of one variant, seen in another light
    other = STUDY.replace("evaluate.offset=5.0", "train.steps=4, evaluate.offset=1.0").replace("set: short", "set: null")
    project, here, there = make_shared_study(tmp_path, other=other)
    store = tmp_path / "store"

    project.pipeline("--isolated", "--set", "train.seed=1")  # a version, which the flow pushes itself
    study = find_study(here, "steps")
    cell = study.cells("longer", 1)[0]
    record = run_one(study, cell, log=print, share=True)
    assert not remotes.has_record(here, "origin", record)
    remotes.push_record(here, "origin", record)
    assert remotes.has_record(here, "origin", record)
    # a push that was cut is mended by the next one, and there is no second record
    sent = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    [history] = [path for path, content in sent.items() if content.startswith(b"step,g_loss") and content.count(b"\n") == 1 + 4]
    history.chmod(0o644)
    history.write_bytes(sent[history][:3])
    assert run_one(study, cell, log=print, share=True).commit == record.commit
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == sent

    remotes.fetch_records(there, "origin")
    remotes.fetch_versions(there, study.settings, print)
    known, study = records.every(there), find_study(there, "steps")
    assert set(known) == {cell.key}

    def stages_run(study, cell):
        lines = []
        record = run_one(study, cell, log=lines.append)
        return stages_of(lines), recorded_metrics(there, record)

    assert not (there.root / ".dvc/cache").exists()
    by_version = next(cell for cell in study.cells("baseline", 2) if cell.seed == 1)
    assert stages_run(study, by_version) == ([], {"fid": 10.1, "fid_std": 0.5, "nested.steps": 3})
    shutil.rmtree(there.root / ".dvc/cache")
    study = find_study(there, "other")
    by_cell = study.cells("worse", 1)[0]
    assert by_cell.key not in known
    assert stages_run(study, by_cell) == (["evaluate"], {"fid": 11.0, "fid_std": 0.5, "nested.steps": 4})


@pytest.mark.slow(seconds=12)
def test_what_a_worker_had_made_of_a_cell_before_it_died_is_not_made_again(tmp_path, monkeypatch):
    project, here, there = make_shared_study(tmp_path)
    study = find_study(here, "steps")
    cell = study.cells("longer", 1)[0]

    def reproduce(session, stage, **options):
        if stage.name == "evaluate":
            raise StageFailed(stage.name, "the worker's end")
        return one_cell_reproduce(session, stage, **options)

    one_cell_reproduce = one_cell.reproduce_undamaged
    monkeypatch.setattr(one_cell, "reproduce_undamaged", reproduce)
    lines = []
    with pytest.raises(StageFailed):
        run_one(study, cell, log=lines.append, share=True)
    assert stages_of(lines) == ["train"] and records.every(here) == {}
    monkeypatch.undo()

    def parts():
        return project.git("ls-remote", "origin", "refs/gan/*")

    assert parts().split()[1] == records.part_ref(cell.key)
    lines, study = [], find_study(there, "steps")
    remotes.fetch_part(there, "origin", study.cells("longer", 2)[1])  # of another cell there is none
    remotes.fetch_part(there, "origin", cell)
    record = run_one(study, cell, log=lines.append, share=True)
    assert stages_of(lines) == ["evaluate"]
    assert recorded_metrics(there, record) == {"fid": 10.0, "fid_std": 0.5, "nested.steps": 4}
    remotes.push_record(there, "origin", record)
    assert parts() == "" and records.parts(there) == []
    assert len(records.parts(here)) == 1
    remotes.fetch_records(here, "origin")
    assert records.every(here)[cell.key].commit == record.commit and records.parts(here) == []


@pytest.mark.slow(seconds=12)
def test_a_damaged_file_of_the_cache_is_found_in_a_cell_and_made_again(tmp_path):
    project = make_study(tmp_path)
    study = find_study(Repository(project.root), "steps")
    cell = study.cells("longer", 1)[0]
    record = run_one(study, cell, log=print)
    weights = cached(project, "0 4")
    flip_a_bit(weights)
    lines = []
    run_one(study, cell, log=lines.append)
    assert stages_of(lines) == ["train"] and weights.read_text() == "0 4"
    assert "DVC's cache held a damaged copy of data/model: removed, train comes anew" in lines

    project.git("update-ref", "-d", record.ref)
    flip_a_bit(weights)
    lines = []
    assert collect(study, [cell], log=lines.append) == 0 and stages_of(lines) == []


@pytest.mark.slow
def test_a_cell_is_not_started_on_a_full_disk(tmp_path):
    project = make_study(tmp_path)
    project.set("free_gigabytes: 0.1", "free_gigabytes: 1000000000.0")
    project.commit("Ask for more than there is")
    study = find_study(Repository(project.root), "steps")
    with pytest.raises(UserError, match="^train is not started: .* GB free on the disk"):
        run_one(study, study.cells("longer", 1)[0], log=print)
