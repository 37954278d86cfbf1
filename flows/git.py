"""Calling git: the few commands that runs and versions need."""

import subprocess
from pathlib import Path

from gan.errors import UserError


class GitError(UserError):
    """A git command failed; the message is git's last line."""


def git(root, *arguments, text=True, stdin=None):
    """Run `git` in `root` and return its standard output without the last newline; raises GitError."""
    # a run nobody watches must fail where git would ask for a password
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, input=stdin, text=text, env=_environment(), check=False
    )
    if done.returncode != 0:
        error = done.stderr if text else done.stderr.decode(errors="replace")
        lines = [line for line in error.strip().splitlines() if line.strip()]
        raise GitError(f"git {arguments[0]}: {' '.join(lines[-2:]) or f'exit code {done.returncode}'}")
    return done.stdout.rstrip("\n") if text else done.stdout


def succeeds(root, *arguments):
    """Whether a git command that answers by its exit code says yes."""
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False).returncode == 0


def top_level(folder):
    """The root of the working tree that `folder` is in."""
    try:
        return Path(git(folder, "rev-parse", "--show-toplevel"))
    except GitError:
        raise UserError(f"{folder}: not in a git repository; run from the project's root") from None


def read_at(root, revision, path):
    """The bytes of the file `path` in `revision`, or None where it is not there."""
    if not succeeds(root, "cat-file", "-e", f"{revision}:{path}"):
        return None
    return git(root, "show", f"{revision}:{path}", text=False)


def has_remote(root, name):
    """Whether a remote of that name is configured."""
    return name in git(root, "remote").splitlines()


def identity(root):
    """Options that give commits an author where git has none configured, as on a fresh worker; none else."""
    if succeeds(root, "config", "user.email") and succeeds(root, "config", "user.name"):
        return ()
    return ("-c", "user.name=pipeline", "-c", "user.email=pipeline@localhost")


def _environment():
    import os

    return {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
