"""What one machine has made of a study, another restores: cells by their records, and all that a version was made of."""

import shutil

import pytest

from flows import remotes
from flows.git import Repository
from flows.studies import records
from flows.studies.cells import find_study
from flows.studies.local import run_one
from tests.studies.test_study import STUDY, make_study


@pytest.mark.slow(seconds=25)
def test_a_fresh_clone_trains_nothing_that_a_cell_or_a_version_of_another_has_trained(tmp_path):
    project = make_study(tmp_path)
    store, origin = tmp_path / "store", tmp_path / "origin.git"
    # the training of one variant, seen in another light
    other = STUDY.replace("evaluate.offset=5.0", "train.steps=4, evaluate.offset=1.0").replace("set: short", "set: null")
    (project.root / "studies/other.yaml").write_text(other)
    project.run("dvc", "remote", "add", "--quiet", "--default", "store", str(store))
    project.commit("Share")
    project.run("git", "clone", "--quiet", "--bare", str(project.root), str(origin))
    project.git("remote", "add", "origin", str(origin))
    there = Repository(tmp_path / "there")
    project.run("git", "clone", "--quiet", str(origin), str(there.root))

    here = Repository(project.root)
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
    remotes.fetch_versions(there, "origin", print)
    known, study = records.every(there), find_study(there, "steps")
    assert set(known) == {cell.key}

    def stages_run(study, cell):
        lines = []
        record = run_one(study, cell, log=lines.append)
        return [line.split("'")[1] for line in lines if line.startswith("Running stage")], records.metrics(there, record)

    assert not (there.root / ".dvc/cache").exists()
    by_version = next(cell for cell in study.cells("baseline", 2) if cell.seed == 1)
    assert stages_run(study, by_version) == ([], {"fid": 10.1, "fid_std": 0.5, "nested.steps": 3})
    shutil.rmtree(there.root / ".dvc/cache")
    study = find_study(there, "other")
    by_cell = study.cells("worse", 1)[0]
    assert by_cell.key not in known
    assert stages_run(study, by_cell) == (["evaluate"], {"fid": 11.0, "fid_std": 0.5, "nested.steps": 4})
