"""What a run is asked to do, and the parameters that follow from it."""

import shlex
import subprocess
import sys
import tempfile
import zoneinfo
from dataclasses import dataclass, replace

from flows import overrides
from flows.dvc.session import project_environment
from flows.settings import FlowParams
from gan.errors import ParamsError
from gan.params import PARAMS, decode, parse_section, parse_yaml, read_text


@dataclass(frozen=True)
class Parameters:
    """The params.yaml of a run."""

    text: str
    settings: FlowParams  # its section `flow`

    @classmethod
    def of_text(cls, text):
        """From the text of the file; raises ParamsError where the section `flow` is wrong."""
        content = parse_yaml(text)
        if "flow" not in content:
            raise ParamsError(f"{PARAMS}: section 'flow' is missing")
        return cls(text, parse_section(content["flow"], "flow", FlowParams))

    @classmethod
    def in_tree(cls, repository):
        """Those of the working tree."""
        return cls.of_text(_text_in_tree(repository))

    def check(self, root):
        """Run the project's own check of all parameters in the folder `root`; its notes, one line each.

        Raises ParamsError with the check's one line.
        """
        command = self.settings.check_command
        with tempfile.TemporaryFile() as content:  # a file without a name, of which a kill leaves nothing
            content.write(self.text.encode())
            content.seek(0)
            file = f"/dev/fd/{content.fileno()}"
            words = [word.replace("{file}", file) for word in shlex.split(command)]
            if words[0] == "python":
                words[0] = sys.executable
            done = subprocess.run(
                words,
                cwd=root,
                env=project_environment(),
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                pass_fds=(content.fileno(),),
            )
        lines = [line.replace(file, PARAMS) for line in done.stderr.strip().splitlines()]
        if done.returncode != 0:
            raise ParamsError(lines[-1] if lines else f"`{command}` ended with exit code {done.returncode}")
        return lines


@dataclass(frozen=True)
class RunRequest:
    """What one run is asked to do: the flow's parameters, in the same order."""

    overrides: tuple[str, ...] = ()  # such as "train.steps=1000"
    stage: str | None = None  # only this one and what it needs
    force: bool = False  # run again what has not changed (with `stage`: that stage only)
    isolated: bool = True  # in a git worktree at `base`, and recorded as a version; else in the working tree
    commit: bool = False  # record the result of a run in the working tree as well
    base: str = "HEAD"  # the commit, branch or tag that an isolated run starts from
    dated_seed: str | None = None  # the parameter that gets the run's date as its value
    timezone: str = "UTC"  # of that date

    def on(self, date):
        """The same request with the override by a `date`, a moment, spelled out, if it has one. Raises ParamsError."""
        if self.dated_seed is None:
            return self
        try:
            there = date.astimezone(zoneinfo.ZoneInfo(self.timezone))
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ParamsError(f"there is no time zone {self.timezone!r}") from None
        return replace(self, overrides=(*self.overrides, f"{self.dated_seed}={there:%Y%m%d}"), dated_seed=None)

    def parameters(self, repository):
        """The parameters that the run will have; raises ParamsError, or GitError where there is no `base`."""
        text = _text_at(repository, self.base) if self.isolated else _text_in_tree(repository)
        return Parameters.of_text(overrides.apply(text, self.overrides))


def _text_in_tree(repository):
    return read_text(repository.root / PARAMS)


def _text_at(repository, revision):
    content = repository.read_at(repository.commit_id(revision), PARAMS)
    if content is None:
        raise ParamsError(f"{revision} has no {PARAMS}")
    return decode(content, f"{PARAMS} of {revision}")
