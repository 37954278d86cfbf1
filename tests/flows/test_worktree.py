"""A worktree is gone at the end of its run, whenever the signal comes that ends it."""

import os
import shutil
import signal
import subprocess

import pytest

from flows.git import Repository
from flows.worktree import left_over, worktree

_GIT = """#!/bin/sh
moment=none
for word in {moments}; do case "$*" in *"worktree $word"*) moment=$word;; esac; done
[ $moment = prune ] && kill -{number} $PPID && sleep 0.2
{git} "$@" || exit
[ $moment = add ] && kill -{number} $PPID && sleep 0.2
exit 0
"""


class Ended(BaseException):
    """What the handlers here raise, as Prefect's do."""


@pytest.fixture
def repository(tmp_path):
    for command in (
        ["init", "--quiet", "."],
        ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--allow-empty", "-m", "Start"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return Repository(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moments", [("add",), ("prune",), ("add", "prune")])
def test_a_signal_to_a_run_leaves_no_worktree(number, moments, repository, tmp_path, monkeypatch):
    """The signal comes while git makes the worktree, or while it forgets it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(_GIT.format(git=shutil.which("git"), number=int(number), moments=" ".join(moments)))
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def end(*_):
        raise Ended

    handler = signal.signal(number, end)
    entered = False
    try:
        with pytest.raises(Ended), worktree(repository, "HEAD", "one") as tree:
            entered = tree.root.is_dir()
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, handler)
    assert entered == ("add" not in moments), "a run that was asked to end begins no work"
    assert not left_over(repository)
    assert len(repository.git("worktree", "list").splitlines()) == 1
