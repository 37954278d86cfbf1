"""A git worktree at an exact commit that shares the repository's DVC cache and remotes: where scheduled runs work."""

import contextlib
import os
import shutil
from pathlib import Path

from flows.git import git


def folder(root):
    """Where the worktrees of `root` lie; DVC's own ignore file keeps it out of git."""
    return Path(root) / ".dvc" / "tmp" / "runs"


@contextlib.contextmanager
def worktree(root, revision, name):
    """Yield the path of a worktree of `root` at `revision`, removed at the end of the block, whatever happens in it."""
    path = folder(root) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    git(root, "worktree", "add", "--quiet", "--detach", str(path), revision)
    try:
        yield path
    finally:
        remove(root, path)


def remove(root, path):
    """Remove a worktree, in whatever state it is."""
    shutil.rmtree(path, ignore_errors=True)
    git(root, "worktree", "prune")


def remove_left_over(root):
    """Remove the worktrees of runs that were killed; the caller holds the lock, so no run is alive. Returns their names."""
    left = sorted(folder(root).iterdir()) if folder(root).is_dir() else []
    for path in left:
        remove(root, path)
    return [path.name for path in left]


def environment(root):
    """What stages in a worktree get: the trainer's scratch folder is the repository's, so that the next run resumes."""
    return {"GAN_SCRATCH": os.environ.get("GAN_SCRATCH") or str(Path(root) / ".scratch")}
