"""What machines share, without a flow around it: names of versions, claims, pushes that were cut, what a lock restores."""

import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from flows import claims, remotes, versions
from flows.deadline import Deadline
from flows.dvc.reproduce import RAN, RESTORED, reproduce
from flows.dvc.session import DvcSession
from flows.gate import Verdict
from flows.git import Repository
from flows.lock import Skipped
from flows.request import Parameters
from tests.helpers.toy_project import make_project, wait_for


@pytest.fixture
def clones(tmp_path):
    """Two clones of one toy project, on "machines" of their own."""
    project = make_project(tmp_path, ran=True)
    project.run("git", "init", "--quiet", "--bare", str(tmp_path / "git.git"))
    project.git("remote", "add", "origin", str(tmp_path / "git.git"))
    project.git("push", "--quiet", "origin", "main")
    other = tmp_path / "other"
    shutil.copytree(project.root, other)
    return Repository(project.root), Repository(other)


def settings_of(repository, **changes):
    return Parameters.in_tree(repository).settings.model_copy(update=changes)


def record(repository, number, *, fid, accepted_as):
    """A version of this clone whose metric is `fid`."""
    metrics = repository.root / "data/evaluation/metrics.json"
    base = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "--quiet", "--detach", base)
    metrics.write_text(json.dumps({"fid": fid, "fid_std": 0.5}))
    tag = f"run/20260101T00000{number}Z-0123abc{number}"
    verdict = Verdict("accepted", f"fid {fid}")
    files = ("data/evaluation/metrics.json",)
    versions.record(repository, versions.NewVersion(tag, f"flow-{number}", base, verdict, accepted_as, files, files, ()))
    repository.git("checkout", "--quiet", "main")
    return tag


@pytest.mark.slow(seconds=8)
def test_both_versions_of_two_machines_are_pushed_and_the_second_is_judged_again(clones, tmp_path):
    here, there = clones
    first = record(here, 1, fid=10.0, accepted_as="generator@v1.0.0")
    better = record(there, 2, fid=9.0, accepted_as="generator@v1.0.0")
    assert remotes.push_versions(here, settings_of(here), print) == []
    assert remotes.push_versions(there, settings_of(there), print) == []
    assert there.git("tag").split() == ["generator@v1.0.0", "generator@v1.1.0", first, better]
    assert versions.find(there, better).accepted_as == "generator@v1.1.0"
    # one that is worse than what another machine has had accepted meanwhile is recorded and not accepted
    worse = record(here, 3, fid=12.0, accepted_as="generator@v1.1.0")
    assert remotes.push_versions(here, settings_of(here), print) == []
    assert versions.find(here, worse).accepted_as is None
    assert versions.find(here, better).accepted_as == "generator@v1.1.0"
    # the same made twice is one version
    record(here, 4, fid=8.0, accepted_as=None)
    same = record(there, 5, fid=8.0, accepted_as=None)
    said = []
    assert remotes.push_versions(here, settings_of(here), print) == []
    assert remotes.push_versions(there, settings_of(there), said.append) == []
    assert "has recorded the same as" in said[0] and same not in there.git("tag")
    assert len([tag for tag in there.git("ls-remote", "--tags", "origin").split() if "run/" in tag and "^" not in tag]) == 4


@pytest.mark.slow(seconds=25)
def test_one_machine_makes_it_and_the_other_waits_until_it_has_or_is_dead(clones):
    here, there = clones
    settings = settings_of(here, claim_seconds=4.0)
    key = claims.key_of(here, "HEAD", "parameters")
    assert key == claims.key_of(there, "HEAD", "parameters") != claims.key_of(there, "HEAD", "others")

    def claimed(repository, said, **changes):
        changed = settings.model_copy(update=changes)
        return claims.claimed(repository, changed, key, name="a-run", log=said.append, deadline=Deadline(60))

    said, ended = [], []

    def wait_in_turn():
        with claimed(there, said):
            ended.append(time.monotonic())

    with claimed(here, []):
        with pytest.raises(Skipped, match="the run a-run on .* makes the same"), claimed(there, [], overlap="skip"):
            pass
        waiting = threading.Thread(target=wait_in_turn)
        waiting.start()
        time.sleep(6)  # longer than a dead machine's claim lasts: this one is renewed
        done = time.monotonic()
    waiting.join()
    assert ended[0] > done and "waiting: the run a-run on" in said[0]
    assert here.git("ls-remote", "origin", f"{claims.REFS}*") == ""

    def die(repository):
        dead = claims.Claim(repository, settings, key, "died", print)
        assert dead.take("wait", Deadline(10))

    die(here)
    with claimed(here, mine := []):  # a clone knows its own
        assert not [line for line in mine if "waiting" in line]
    die(here)
    began = time.monotonic()
    with claimed(there, []):
        assert time.monotonic() - began > 4
    die(here)
    assert claims.left_over(there, "origin", 3600) == []
    [(reference, found)] = claims.left_over(there, "origin", -1)
    claims.remove(there, "origin", reference, found)
    assert here.git("ls-remote", "origin", f"{claims.REFS}*") == ""
    there.git("remote", "set-url", "origin", "/nowhere")
    said.clear()
    with claimed(there, said):
        assert "no claim on origin, another machine may make the same" in said[0]


def test_a_copy_of_a_clone_waits_for_it(clones, tmp_path):
    here, _ = clones
    settings = settings_of(here, overlap="skip")
    with claims.claimed(here, settings, "a-key", name="a-run", log=print, deadline=Deadline(10)):
        shutil.copytree(here.root, tmp_path / "copy", symlinks=True)
        copy = Repository(tmp_path / "copy")
        with (
            pytest.raises(Skipped, match="the run a-run on .* makes the same"),
            claims.claimed(copy, settings, "a-key", name="a-run", log=print, deadline=Deadline(10)),
        ):
            pass


def hook(repository, name, text):
    """Let the remote of `repository` run a shell script while it works."""
    file = Path(repository.git("remote", "get-url", "origin")) / "hooks" / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def test_of_two_who_take_over_the_same_dead_claim_one_gets_it(clones):
    here, there = clones
    settings = settings_of(here)
    assert claims.Claim(here, settings, "a-key", "died", print).take("wait", Deadline(10))
    first, second = (claims.Claim(repository, settings, "a-key", "a-run", print) for repository in clones)
    dead, same = first._found(), second._found()
    assert first._replace(dead)
    held = first._found()
    assert dead == same != held and not second._replace(same)
    assert second._found() == held


def test_who_loses_many_races_for_a_claim_goes_on_waiting_for_it(clones, tmp_path, monkeypatch):
    here, _ = clones
    remote = here.git("remote", "get-url", "origin")
    note = json.dumps({"machine": "another", "host": "a-host", "run": "another"})
    other, reference = here.git("--git-dir", remote, "hash-object", "-w", "--stdin", stdin=note), f"{claims.REFS}a-key"
    races, said = tmp_path / "races", []
    races.write_text("1 2 3 4 5 6")
    hook(  # another is faster as often as that
        here,
        "pre-receive",
        f'read first rest < "{races}"; [ "$first" ] || exit 0; echo "$rest" > "{races}"\n'
        f"env -u GIT_QUARANTINE_PATH git update-ref {reference} {other}; exit 1",
    )
    monkeypatch.setattr(claims, "_POLL_SECONDS", 0.01)

    class TheOthersEnd:
        def require(self):
            here.git("--git-dir", remote, "update-ref", "-d", reference)

    assert claims.Claim(here, settings_of(here), "a-key", "a-run", said.append).take("wait", TheOthersEnd())
    assert races.read_text() == "\n" and not [line for line in said if "takes no claims" in line]


def test_a_claim_that_changes_hands_while_it_is_read_still_says_whose_it_is(clones):
    here, there = clones
    settings = settings_of(here, overlap="skip")

    class TakenOverMeanwhile(Repository):
        """`here`, for which another claim lies at the remote by the time it fetches the one that it has found."""

        def over_network(self, *arguments):
            if arguments[0] == "fetch":
                there.over_network("push", "--quiet", "--force", "origin", f"{notes.pop()}:{claims.REFS}a-key")
            return super().over_network(*arguments)

    note = json.dumps({"machine": "another", "host": "a-host", "run": "second"})
    notes = [there.git("hash-object", "-w", "--stdin", stdin=note)]
    assert claims.Claim(there, settings, "a-key", "first", print).take("wait", Deadline(10))
    claim = claims.Claim(TakenOverMeanwhile(here.root), settings, "a-key", "a-run", print)
    with pytest.raises(Skipped, match="the run second on a-host makes the same"):
        claim.take("skip", Deadline(10))
    assert not notes and here.git("for-each-ref", "refs/pipeline") == ""


def test_a_version_whose_accepted_name_is_refused_is_not_pushed_in_part(clones, monkeypatch):
    here, _ = clones
    monkeypatch.setattr(remotes, "_PAUSE_SECONDS", 0.0)
    hook(here, "update", 'case "$1" in refs/tags/generator@*) exit 1;; esac')
    tag = record(here, 1, fid=10.0, accepted_as="generator@v1.0.0")
    [error] = remotes.push_versions(here, settings_of(here), print)
    assert f"{tag} is not pushed, the next run tries again" in error
    assert here.git("ls-remote", "--tags", "origin") == "" and not versions.find(here, tag).pushed
    hook(here, "update", "")
    assert remotes.push_versions(here, settings_of(here), print) == []
    assert here.git("ls-remote", "--tags", "--refs", "origin").count("refs/tags/") == 2


@pytest.mark.slow(seconds=3)
@pytest.mark.parametrize("losses", [1, 2])
def test_a_renewal_whose_answer_is_lost_is_no_takeover(clones, tmp_path, losses):
    here, _ = clones
    said, lose = [], tmp_path / "lose"
    hook(here, "reference-transaction", f'[ "$1" != committed ] || ! rm "{lose}" 2>/dev/null || kill -9 $PPID')
    settings = settings_of(here, claim_seconds=2.0)
    with claims.claimed(here, settings, "a-key", name="a-run", log=said.append, deadline=Deadline(10)):
        for _ in range(losses):
            lose.touch()
            wait_for(lambda: not lose.exists(), 60, "a renewal")
        if losses == 1:
            time.sleep(1.5)  # and renewals that do well
    assert said == [] and here.git("ls-remote", "origin", f"{claims.REFS}*") == ""


@pytest.mark.slow(seconds=6)
def test_a_remote_that_hangs_holds_up_no_end(clones, tmp_path):
    here, _ = clones
    hang, hangs = tmp_path / "hang", tmp_path / "hangs"
    hook(here, "pre-receive", f'while [ -e "{hang}" ]; do touch "{hangs}"; sleep 0.1; done')
    settings = settings_of(here, claim_seconds=2.0)
    try:
        with claims.claimed(here, settings, "a-key", name="a-run", log=print, deadline=Deadline(10)):
            hang.touch()
            wait_for(hangs.exists, 60, "a renewal that hangs")
            began = time.monotonic()
        assert time.monotonic() - began < 20
    finally:
        hang.unlink()


@pytest.mark.slow(seconds=10)
def test_a_version_older_than_the_dvc_remote_is_pushed_with_its_data(clones, tmp_path):
    here, there = clones
    store = tmp_path / "store"
    settings = settings_of(here)
    record(here, 1, fid=10.0, accepted_as="generator@v1.0.0")
    for repository in clones:
        with DvcSession(repository.root, grace_seconds=5) as session:
            session.dvc("remote", "add", "--default", "store", str(store))
    shutil.rmtree(there.root / ".dvc/cache")
    shutil.rmtree(there.root / "data/gallery")
    with DvcSession(there.root, grace_seconds=5) as session:
        [gallery] = session.describe().stages_for("gallery")[-1:]
        assert reproduce(session, gallery, pull=True) == RAN, "DVC tried to pull it first, in vain"

    origin = here.git("remote", "get-url", "origin")
    here.git("remote", "set-url", "origin", str(tmp_path / "nowhere"))
    [error] = remotes.push_versions(here, settings, print)
    assert "is not pushed, the next run tries again: git " in error
    assert not store.exists(), "a version whose tags cannot be pushed is not tried"
    here.git("remote", "set-url", "origin", origin)
    assert remotes.push_versions(here, settings, print) == []
    shutil.rmtree(there.root / ".dvc/cache")
    shutil.rmtree(there.root / "data/gallery")
    with DvcSession(there.root, grace_seconds=5) as session:
        assert reproduce(session, gallery, pull=True) == RESTORED


@pytest.mark.slow(seconds=10)
def test_a_push_that_was_cut_is_mended_and_a_lock_in_git_restores(clones, tmp_path):
    here, there = clones
    store = tmp_path / "store"
    for repository in clones:
        with DvcSession(repository.root, grace_seconds=5) as session:
            session.dvc("remote", "add", "--default", "store", str(store))
    with DvcSession(here.root, grace_seconds=5) as session:
        assert session.try_remote() == str(store)
        session.push()
        sent = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
        cut, lost = sorted(sent, key=lambda path: len(sent[path]))[-2:]
        cut.chmod(0o644)
        cut.write_bytes(sent[cut][:3])
        lost.unlink()
        session.push()
        assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == sent

    # an empty cache, and a lock that is not the one that git knows
    shutil.rmtree(there.root / ".dvc/cache")
    for name in ("raw", "normalized", "model", "gallery", "report"):
        shutil.rmtree(there.root / "data" / name)
    (there.root / "data/evaluation/metrics.json").unlink()
    (there.root / "dvc.lock").unlink()
    with DvcSession(there.root, grace_seconds=5) as session:
        note = tmp_path / "note.json"
        commit = there.git("rev-parse", "HEAD")
        assert session.remember([commit], note) == 1 and session.remember([commit], note) == 0
        code, lines = session.dvc("repro", "--pull")
    assert code == 0 and not [line for line in lines if line.startswith("Running stage")], lines
    assert (there.root / "dvc.lock").read_bytes() == (here.root / "dvc.lock").read_bytes()
    assert there.git("status", "--short", "data", "dvc.lock") == ""
