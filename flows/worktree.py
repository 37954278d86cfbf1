"""A git worktree at an exact commit that shares the repository's DVC cache and remotes: where scheduled runs work."""

import contextlib
import os
import shutil

from flows.git import Repository


@contextlib.contextmanager
def worktree(repository, revision, name):
    """Yield a worktree of `repository` at `revision`, removed at the end of the block, whatever happens in it."""
    path = _folder(repository) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    repository.git("worktree", "add", "--quiet", "--detach", str(path), revision)
    try:
        yield Repository(path)
    finally:
        _remove(repository, path)


def remove_left_over(repository):
    """Remove the worktrees of runs that were killed; the caller holds the lock, so no run is alive. Returns their names."""
    folder = _folder(repository)
    left = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in left:
        _remove(repository, path)
    return [path.name for path in left]


def environment(repository):
    """What stages in a worktree get: the trainer's scratch folder is the repository's, so that the next run resumes."""
    return {"GAN_SCRATCH": os.environ.get("GAN_SCRATCH") or str(repository.root / ".scratch")}


def _folder(repository):
    return repository.root / ".dvc" / "tmp" / "runs"  # which DVC's own ignore file keeps out of git


def _remove(repository, path):
    """Remove a worktree, in whatever state it is."""
    shutil.rmtree(path, ignore_errors=True)
    repository.git("worktree", "prune")
