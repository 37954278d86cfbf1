"""Running one stage through DVC: what happened to it, and nothing lost when it fails or is stopped."""

import re
import shutil
from pathlib import Path

CACHED, RESTORED, RAN = "Cached", "Restored", "Ran"
_PROGRESS = re.compile(r"\bstep (\d+)/(\d+)")


class StageFailed(Exception):
    """A stage ended with an error; `output` is what it and DVC printed."""

    def __init__(self, message, output):
        super().__init__(message)
        self.output = output


class Busy(Exception):
    """Another DVC process works on the same files; the message is DVC's."""


def reproduce(session, stage, *, force=False, pull=False, on_line=None, deadline=None):
    """Bring one stage up to date, given that those before it are, and return Cached, Restored or Ran."""
    options = [option for option, wanted in (("--force", force), ("--pull", pull)) if wanted]
    code, lines = session.dvc("repro", "--single-item", *options, stage.name, on_line=on_line, deadline=deadline)
    if code != 0:
        text = "\n".join(lines)
        if "is busy, it is being blocked by" in text or "Unable to acquire lock" in text:
            raise Busy(" ".join(text.split()))
        raise StageFailed(f"{stage.name} failed: {_reason(lines)}", text)
    return _outcome(stage.name, lines)


def selected(description, target=None):
    """The stages to walk, in order: all, or `target` (which must exist) and those that it needs."""
    if target is None:
        return list(description.stages)
    by_name = {stage.name: stage for stage in description.stages}
    wanted, open_names = set(), [target]
    while open_names:
        name = open_names.pop()
        if name not in wanted:
            wanted.add(name)
            open_names += by_name[name].needs
    return [stage for stage in description.stages if stage.name in wanted]


def progress(line):
    """(step, steps) of a progress line such as "step 1200/5001 …", or None."""
    match = _PROGRESS.search(line)
    return (int(match[1]), int(match[2])) if match and int(match[2]) > 0 else None


class Keeper:
    """Remembers a stage's outputs before it runs, since DVC deletes them first, and puts them back when it did not finish."""

    def __init__(self, root, stage):
        self._root = Path(root)
        self._cached = {out.path: self._identity(out.path) for out in stage.outs if out.cached}
        self._uncached = {
            out.path: (self._root / out.path).read_bytes()
            for out in stage.outs
            if not out.cached and (self._root / out.path).is_file()
        }

    def put_back(self, session):
        """Restore what was there and is gone: cached outputs by `dvc checkout`, the small ones that git keeps from memory."""
        for path, content in self._uncached.items():
            (self._root / path).parent.mkdir(parents=True, exist_ok=True)
            (self._root / path).write_bytes(content)
        lost = [path for path, identity in self._cached.items() if identity and self._identity(path) != identity]
        for path in lost:  # what is there now is half an output
            if (self._root / path).is_dir():
                shutil.rmtree(self._root / path)
            else:
                (self._root / path).unlink(missing_ok=True)
        if lost:
            session.dvc("checkout", "--allow-missing", *lost)

    def _identity(self, path):
        try:
            status = (self._root / path).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_ctime_ns


def _outcome(name, lines):
    # a stage's own output comes after "Running stage", so that the first of these lines is DVC's
    for line in lines:
        if line.startswith(f"Running stage '{name}'"):
            return RAN
        if line.startswith(f"Stage '{name}' didn't change"):
            return CACHED
        if line.startswith((f"Stage '{name}' is cached", "Pulling data for ")):
            return RESTORED
    raise StageFailed(f"{name}: DVC said nothing that tells what it did", "\n".join(lines))


def _reason(lines):
    """The stage's own last line where it has one, else DVC's error."""
    errors = [number for number, line in enumerate(lines) if line.startswith("ERROR: ")]
    started = [number for number, line in enumerate(lines) if line.startswith("> ")]
    end = errors[0] if errors else len(lines)
    own = [line for line in lines[started[-1] + 1 if started else end : end] if line.strip()]
    error = lines[errors[0]].removeprefix("ERROR: ") if errors else "no output"
    return f"{own[-1]} ({error})" if own else error
