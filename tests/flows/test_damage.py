"""What DVC and git do not look at: damaged files in the cache, what killed processes leave behind, a request without an end."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from flows.dvc import process
from flows.dvc.session import DvcSession
from flows.git import Repository
from flows.lock import RunLock, forget_ended_processes
from flows.worktree import worktree
from gan.errors import UserError
from gan.params import parse_yaml
from tests.helpers.toy_project import make_project, server_url


def rewrite(path, content):
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)  # DVC takes what nobody can write for whole


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    rewrite(path, content)


def cached(project, text):
    """The file of DVC's cache that holds `text`."""
    files = [path for path in (project.root / ".dvc/cache/files").rglob("*") if path.is_file()]
    (found,) = [path for path in files if path.read_bytes() == text.encode()]
    return found


@pytest.mark.slow
def test_the_cache_is_looked_at_without_standard_input_and_output(tmp_path):
    project = make_project(tmp_path, ran=True)
    done = project.run("sh", "-c", f"exec {sys.executable} -m commands verify <&- >&-", check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow(seconds=15)
def test_a_damaged_file_of_the_cache_is_found_and_made_again(tmp_path):
    project = make_project(tmp_path, ran=True, api_url=server_url())
    weights = project.root / "data/model/weights.txt"
    right = weights.read_text()
    victim = cached(project, right)
    flip_a_bit(victim)
    found = project.gan("verify", check=False)
    assert found.returncode == 1
    assert found.stderr.splitlines()[0] == f"data/model: damaged in DVC's cache: {victim}"
    assert "`gan verify --remove`" in found.stderr

    for path in (weights, project.root / "data/model/history.csv"):
        path.unlink()
    done = project.pipeline()
    assert "held a damaged copy of data/model: removed, train comes anew" in done.stdout + done.stderr
    assert "train Ran" in done.stdout
    assert weights.read_text() == right == victim.read_text()
    assert project.gan("verify").stderr == ""

    listing = next(path for path in (project.root / ".dvc/cache/files").rglob("*.dir") if b"weights.txt" in path.read_bytes())
    content = listing.read_bytes()
    rewrite(listing, content.replace(b"relpath", b"relqath"))
    shutil.rmtree(project.root / "data/model")
    done = project.pipeline()  # DVC itself comes no further than this listing
    assert "held a damaged copy of data/model: removed, it comes anew" in done.stdout + done.stderr
    assert weights.read_text() == right and listing.read_bytes() == content

    lock = (project.root / "dvc.lock").read_text()
    stages = re.split(r"(?=^  \w+:$)", lock, flags=re.M)
    (project.root / "dvc.lock").write_text("".join(stage for stage in stages if not stage.startswith("  train:")))
    rewrite(listing, content.replace(b"weights.txt", b"weighus.txt"))
    shutil.rmtree(project.root / "data/model")
    assert "train Ran" in project.pipeline().stdout  # and is not restored with another name
    assert parse_yaml((project.root / "dvc.lock").read_text()) == parse_yaml(lock) and listing.read_bytes() == content

    rewrite(listing, content.replace(b"weights.txt", b"weighus.txt"))
    shutil.rmtree(project.root / "data/model")
    shutil.rmtree(project.root / ".dvc/cache/runs")  # it is not needed to restore what dvc.lock names
    # DVC believes the listing, and evaluate misses a file
    assert project.run("dvc", "repro", "--quiet", check=False).returncode != 0
    found = project.gan("verify", check=False)
    assert found.returncode == 1
    assert found.stderr.startswith(f"data/model: damaged in DVC's cache: {listing}, ")
    assert project.gan("verify", "--remove").returncode == 0
    project.run("dvc", "repro", "--quiet")
    assert parse_yaml((project.root / "dvc.lock").read_text()) == parse_yaml(lock) and listing.read_bytes() == content
    assert project.gan("verify").stderr == ""

    flip_a_bit(victim)
    assert project.gan("verify", "--remove").returncode == 0
    assert not victim.exists() and not weights.exists()
    project.run("dvc", "repro", "--quiet")
    assert weights.read_text() == right == victim.read_text()


@pytest.mark.parametrize("after_seconds", [0, 1.5])
def test_a_signal_to_the_dvc_process_alone_ends_the_request_that_waits_for_it(tmp_path, after_seconds):
    with DvcSession(tmp_path, grace_seconds=1) as session:
        time.sleep(after_seconds)
        session._process.send_signal(signal.SIGINT)
        with pytest.raises(UserError, match="the DVC process ended unexpectedly"):
            session.describe()


def test_a_lock_that_a_killed_git_has_left_on_a_reference_of_ours_is_removed(tmp_path):
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=tmp_path, check=False, capture_output=True).returncode

    git("init", "--quiet")
    git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--allow-empty", "-m", "Start")
    names = ("pipeline/unpushed/run/1", "gan/parts/1", "exps/ab/1/a", "tags/run/1", "tags/generator@v1.0.0")
    ours = [tmp_path / f".git/refs/{name}.lock" for name in names]
    held, others = tmp_path / ".git/refs/pipeline/unpushed/run/2.lock", tmp_path / ".git/refs/heads/a.lock"
    for file in (*ours, held, others):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for file in (*ours, others):
        os.utime(file, (time.time() - 10, time.time() - 10))
    os.utime(held, (time.time() + 3600, time.time() + 3600))  # however long this takes, it is held
    assert git("update-ref", "refs/pipeline/unpushed/run/1", "HEAD") != 0
    with RunLock(Repository(tmp_path)).exclusive_run("a", policy="skip", log=print):
        assert not any(file.exists() for file in ours) and held.exists() and others.exists()
    assert git("update-ref", "refs/pipeline/unpushed/run/1", "HEAD") == 0


def test_what_a_signal_cut_off_says_nothing_when_it_is_taken_down(monkeypatch, capfd):
    class Bar:  # of DVC's, whose making a signal has cut off
        def __del__(self):
            return self.postfix

    monkeypatch.setattr(process, "_interrupted", threading.Event())
    monkeypatch.setattr(sys, "unraisablehook", process._quiet_if_interrupted)
    Bar()
    assert "no attribute 'postfix'" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        process._interrupt(signal.SIGINT, None)
    Bar()
    assert capfd.readouterr().err == ""


def test_what_git_left_of_a_worktree_when_it_was_killed_is_no_hindrance(tmp_path):
    def git(*arguments):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "--quiet")
    git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--allow-empty", "-m", "Start")
    for name in ("same", "other"):
        git("worktree", "add", "--quiet", "--detach", f".dvc/tmp/runs/{name}")
        (tmp_path / f".git/worktrees/{name}/locked").write_text("initializing")
        shutil.rmtree(tmp_path / f".dvc/tmp/runs/{name}")
    with worktree(Repository(tmp_path), "HEAD", "same") as tree:
        assert (tree.root / ".git").is_file()
    assert not list((tmp_path / ".git").glob("worktrees/*"))


@pytest.fixture
def locks(tmp_path):
    """A repository's stand-in, whose file of locks is `file`."""
    folder = tmp_path / ".dvc/tmp"
    folder.mkdir(parents=True)
    return SimpleNamespace(root=tmp_path, file=folder / "rwlock", guard=folder / "rwlock.lock")


def entry(pid, command="dvc repro"):
    return {"pid": pid, "cmd": command}


def test_what_ended_processes_left_among_dvcs_locks_goes_and_the_rest_stays(locks):
    ended = subprocess.Popen(["true"])
    ended.wait()
    code = "print(flush=True); input()"
    lives = subprocess.Popen([sys.executable, "-c", code, "repro"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    lives.stdout.readline()  # until then the system may not show its command line
    try:
        before = {
            "write": {"a": entry(ended.pid), "b": entry(lives.pid), "c": entry(lives.pid, "dvc checkout")},
            "read": {"d": [entry(ended.pid)], "e": [entry(ended.pid), entry(lives.pid)]},
        }
        locks.file.write_text(json.dumps(before))
        forget_ended_processes(locks)
        assert json.loads(locks.file.read_text()) == {"write": {"b": entry(lives.pid)}, "read": {"e": [entry(lives.pid)]}}
    finally:
        lives.communicate(b"\n")


@pytest.mark.parametrize(
    "content", ["", '{"write": {"a": {"pi', "[1]", '{"write": [1]}', '{"write": {"a": {"pid": "x", "cmd": 1}}}']
)
def test_half_a_file_of_locks_goes(locks, content):
    locks.file.write_text(content)
    forget_ended_processes(locks)
    assert not locks.file.exists()


def test_a_file_of_locks_that_a_dvc_writes_now_is_left_alone(locks):
    locks.file.write_text("")
    with open(locks.guard, "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        forget_ended_processes(locks)
    assert locks.file.exists()
    locks.file.unlink()
    forget_ended_processes(locks)
