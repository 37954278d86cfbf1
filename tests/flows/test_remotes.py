"""What runs exchange with a git remote, whatever a person has configured git to do."""

import os
from types import SimpleNamespace

import pytest

from flows import remotes
from flows.git import Repository
from gan.errors import UserError

SETTINGS = SimpleNamespace(git_remote="origin", gate=SimpleNamespace(artifact="generator"))
AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@example.org")


@pytest.fixture
def clones(tmp_path):
    """Two clones of one remote, which has a commit."""
    for name in ("remote.git", "here", "there"):
        (tmp_path / name).mkdir()
    Repository(tmp_path / "remote.git").git("init", "--quiet", "--bare", "--initial-branch=main")
    here, there = (Repository(tmp_path / name) for name in ("here", "there"))
    for clone in (here, there):
        clone.git("init", "--quiet", "--initial-branch=main")
        clone.git("remote", "add", "origin", str(tmp_path / "remote.git"))
    here.git(*AUTHOR, "commit", "--quiet", "--allow-empty", "-m", "Start")
    here.git("push", "--quiet", "origin", "main")
    there.git("pull", "--quiet", "origin", "main")
    return here, there


def test_a_fetch_deletes_nothing_that_is_only_here(clones):
    here, there = clones
    for key in ("fetch.prune", "remote.origin.prune", "fetch.pruneTags", "remote.origin.pruneTags"):
        here.git("config", key, "true")
    only_here = ["refs/exps/12/3456/mine", "refs/pipeline/unpushed/run/1", "refs/tags/generator@v9.0.0", "refs/tags/mine"]
    only_here += ["refs/tags/run/1", "refs/gan/parts/1"]
    for name in only_here:
        here.git("update-ref", name, "HEAD")
    others = ["refs/exps/12/3456/theirs", "refs/tags/generator@v1.0.0", "refs/tags/run/2"]
    for name in others:
        there.git("update-ref", name, "HEAD")
    # a team's moving tag, which a fetch of all tags would not dare to move
    here.git("tag", "latest")
    there.git("tag", "latest", there.git(*AUTHOR, "commit-tree", "HEAD^{tree}", "-m", "Later"))
    there.git("push", "--quiet", "origin", *(f"{name}:{name}" for name in [*others, "refs/tags/latest"]))

    said = []
    remotes.fetch_base(here, "origin/main", said.append)
    remotes.fetch_versions(here, SETTINGS, said.append)
    remotes.fetch_records(here, "origin")
    assert said == []
    known = here.git("for-each-ref", "--format=%(refname)", "refs/exps", "refs/gan", "refs/pipeline", "refs/tags").split()
    assert sorted(known) == sorted([*only_here, *others, "refs/tags/latest"])
    assert here.commit_id("latest") == here.commit_id("HEAD")


def test_git_says_itself_why_it_does_not_work_in_a_repository(clones, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="not in a git repository; run from the project's root"):
        Repository.around(tmp_path)
    here, _ = clones
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UserError, match="fatal: detected dubious ownership .* git config --global --add safe.directory"):
        Repository.around(here.root)
    # what is set in the shell alone counts as well
    for name, value in {"COUNT": "1", "KEY_0": "safe.directory", "VALUE_0": str(here.root)}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    assert Repository.around(here.root) == here


def test_a_persons_hooks_are_not_for_runs(clones, tmp_path):
    here, _ = clones
    for name in ("post-checkout", "pre-push", "reference-transaction"):
        hook = tmp_path / "here" / ".git" / "hooks" / name
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
    here.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"))
    here.git("tag", "run/1")
    here.over_network("push", "--quiet", "origin", "refs/tags/run/1")
    assert here.succeeds("rev-parse", "--verify", "--quiet", "refs/tags/run/1")


def test_a_version_that_lost_its_tag_is_not_forgotten_without_a_word(clones):
    here, _ = clones
    here.git("update-ref", "refs/pipeline/unpushed/run/1", "HEAD")
    said = []
    assert remotes.push_versions(here, SETTINGS, said.append) == []
    assert said == [f"run/1 is not pushed: it has no tag any more; `git tag run/1 {here.commit_id('HEAD')}` gives it one"]
    assert here.git("for-each-ref", "refs/pipeline") == ""
