"""A git worktree at an exact commit that shares the repository's DVC cache and remotes: where scheduled runs work."""

import contextlib
import shutil
from pathlib import Path

from flows.git import Repository
from flows.signals import signals_delayed
from gan.runtime import scratch_folder


@contextlib.contextmanager
def worktree(repository, revision, name):
    """Yield a worktree of `repository` at `revision`, removed at the end of the block, whatever happens in it."""
    path = _folder(repository) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with signals_delayed():  # else git would be cut off, and half a worktree left
            # twice forced: of a run that was killed at this very place git knows the path, as one that is not to be touched
            repository.git("worktree", "add", "--quiet", "--force", "--force", "--detach", str(path), revision)
        yield Repository(path)
    finally:
        with signals_delayed():
            _remove(repository, path)


def remove_left_over(repository):
    """Remove the worktrees of runs that were killed; the caller holds the lock, so no run is alive. Returns their names."""
    left = left_over(repository)
    for name in left:
        _remove(repository, _folder(repository) / name)
    return left


def left_over(repository):
    """The names of the worktrees that there are, those of runs that live included."""
    folder = _folder(repository)
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def environment(repository, tree):
    """What DVC and the stages get in the worktree `tree` of `repository`.

    The scratch folder is the repository's, so that the next run resumes. What DVC notes of a working tree goes with it: elsewhere
    it would keep the notes of every worktree that there ever was.
    """
    scratch = str(scratch_folder(repository.root))
    return {"GAN_SCRATCH": scratch, "DVC_SITE_CACHE_DIR": str(tree.root / ".dvc" / "tmp" / "site")}


def _folder(repository):
    return repository.root / ".dvc" / "tmp" / "runs"  # which DVC's own ignore file keeps out of git


def _remove(repository, path):
    """Remove a worktree, in whatever state it is."""
    shutil.rmtree(path, ignore_errors=True)
    for known in _locked(repository):
        if known.parent == path.parent.resolve() and not known.exists():
            repository.git("worktree", "unlock", str(known))
    repository.git("worktree", "prune")


def _locked(repository):
    """The paths of worktrees that git was making when it was killed: it locks them meanwhile, and keeps locked ones for ever."""
    blocks = repository.git("worktree", "list", "--porcelain").split("\n\n")
    lines = [block.splitlines() for block in blocks]
    return [Path(block[0].removeprefix("worktree ")) for block in lines if any(line.startswith("locked") for line in block)]
