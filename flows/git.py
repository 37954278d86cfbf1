"""Calling git: the few commands that runs and versions need."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gan.errors import UserError

_MESSAGE_CHARACTERS = 500
# what ties git to another repository, as it tells hooks and aliases: `git rev-parse --local-env-vars`, but for GIT_CONFIG_COUNT
# and GIT_CONFIG_PARAMETERS, which are settings of a person's or of CI's, such as safe.directory
_TIES = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
}
_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=8"


class GitError(UserError):
    """A git command failed; the message is git's last lines."""


@dataclass(frozen=True)
class Repository:
    """A git working tree: a person's, or a worktree that a run made for itself."""

    root: Path

    @classmethod
    def around(cls, folder):
        """The one that `folder` is in."""
        try:
            return cls(Path(cls(folder).git("rev-parse", "--show-toplevel")))
        except GitError as error:
            if "not a git repository" not in str(error):
                raise
            raise UserError(f"{folder}: not in a git repository; run from the project's root") from None

    def git(self, *arguments, text=True, stdin=None):
        """Run `git` and return its standard output without the last newline; raises GitError."""
        done = self._call(arguments, input=stdin, text=text)
        if done.returncode != 0:
            error = done.stderr if text else done.stderr.decode(errors="replace")
            lines = [line for line in error.strip().splitlines() if line.strip()]
            reason = " ".join(lines[-3:])[:_MESSAGE_CHARACTERS]
            raise GitError(f"git {_command(arguments)}: {reason or f'exit code {done.returncode}'}")
        return done.stdout.rstrip("\n") if text else done.stdout

    def _call(self, arguments, **options):
        # a person's hooks, those of `dvc install` among them, are for a person's work: in a run's worktree they fail, and end it
        command = ["git", "-c", f"core.hooksPath={os.devnull}", *arguments]
        # a run nobody watches must fail where git would ask for a password
        environment = {**untied_environment(), "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, check=False, **options)

    def over_network(self, *arguments):
        """The same for a command that talks to a remote: one that has gone is given up after two minutes."""
        patience = ["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=120"]
        if "GIT_SSH_COMMAND" not in os.environ and not self.succeeds("config", "core.sshCommand"):
            patience += ["-c", f"core.sshCommand={_SSH}"]
        return self.git(*patience, *arguments)

    def succeeds(self, *arguments):
        """Whether a git command that answers by its exit code says yes."""
        return self._call(arguments).returncode == 0

    def commit_id(self, revision):
        """The commit that `revision` (a commit, branch or tag) names; raises GitError."""
        # the operating system itself cannot pass some characters on, and ^NAME would be "all but"
        if not revision.isprintable() or revision.startswith("^"):
            raise GitError(f"{revision[:100]!r}: no name of a commit, branch or tag")
        try:
            return self.git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
        except GitError as error:
            if "Needed a single revision" not in str(error):
                raise
            raise GitError(f"{revision[:100]}: no such commit, branch or tag") from None

    def read_at(self, revision, path):
        """The bytes of the file `path` in `revision`, or None where it is not there."""
        if not self.succeeds("cat-file", "-e", f"{revision}:{path}"):
            return None
        return self.git("show", f"{revision}:{path}", text=False)

    def has_ref(self, name):
        """Whether there is a reference of that name, such as refs/tags/run/1 or @{upstream}."""
        return self.succeeds("rev-parse", "--verify", "--quiet", name)

    def has_remote(self, name):
        """Whether a remote of that name is configured."""
        return name in self.git("remote").splitlines()

    def author(self):
        """Options that give commits an author where git has none configured, as on a fresh worker; none else."""
        if self.succeeds("config", "user.email") and self.succeeds("config", "user.name"):
            return ()
        return ("-c", "user.name=pipeline", "-c", "user.email=pipeline@localhost")


def untied_environment():
    """This process's environment, in which git finds the repository by the folder that it is called in."""
    return {name: value for name, value in os.environ.items() if name not in _TIES}


def _command(arguments):
    """The command in the `arguments` of git, which may begin with `-c name=value`."""
    words = list(arguments)
    while words[0] == "-c":
        del words[:2]
    return words[0]
