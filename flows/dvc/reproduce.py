"""Running one stage through DVC, and what came of it."""

import re

from flows.disk import NoRoom, lack_of_room
from flows.dvc.damage import clear_damage
from flows.dvc.session import Busy, says_busy
from flows.lock import Skipped, when_free
from gan.errors import UserError

CACHED, RESTORED, RAN = "Cached", "Restored", "Ran"
_PROGRESS = re.compile(r"\bstep (\d+)/(\d+)")


class StageFailed(Exception):
    """A stage ended with an error; `output` is what it and DVC printed."""

    def __init__(self, message, output):
        super().__init__(message)
        self.output = output


def reproduce(session, stage, *, force=False, pull=False, on_line=None, deadline=None):
    """Bring one stage up to date, given that those before it are, and return Cached, Restored or Ran."""
    options = [option for option, wanted in (("--force", force), ("--pull", pull)) if wanted]
    code, lines = session.dvc("repro", "--single-item", *options, stage.name, on_line=on_line, deadline=deadline)
    if code != 0:
        text = "\n".join(lines)
        if says_busy(text):
            raise Busy(" ".join(text.split()))
        raise StageFailed(f"{stage.name} failed: {_reason(lines)}", text)
    return _outcome(stage.name, lines)


def describe_undamaged(session, *, root, settings, tell, deadline):
    """DVC's Description of the work in `root`; what is damaged in its cache, and keeps it from reading on, is removed.

    settings: the FlowParams; their `overlap` decides between waiting for others' DVC and raising Skipped.
    tell: gets a line about what was removed.
    """
    try:
        return when_free(session.describe, policy=settings.overlap, deadline=deadline)
    except Skipped:
        raise
    except UserError:
        damaged = clear_damage(session, root)
        if not damaged:
            raise
    tell(f"DVC's cache held a damaged copy of {', '.join(damaged)}: removed, it comes anew")
    return when_free(session.describe, policy=settings.overlap, deadline=deadline)


def reproduce_undamaged(session, stage, *, root, settings, tell, force=False, only_cached=False, pull, on_line, deadline):
    """`reproduce` where there is room on the disk, else NoRoom; what it restored from damaged files of the cache comes anew.

    With `only_cached` nothing runs, and None is returned where the stage would have to. settings, tell: as above.
    """
    if not only_cached and (lack := lack_of_room(root, settings)):
        raise NoRoom(f"{stage.name} is not started: {lack}")
    for forced in (force, False, True):  # from a remote, where there is one; that copy may be damaged too
        if only_cached and (forced or not session.in_run_cache(stage.name)):
            return None
        outcome = when_free(
            lambda forced=forced: reproduce(session, stage, force=forced, pull=pull, on_line=on_line, deadline=deadline),
            policy=settings.overlap,
            deadline=deadline,
        )
        if outcome != RESTORED or not (damaged := clear_damage(session, root, [stage.name])):
            break
        tell(f"DVC's cache held a damaged copy of {', '.join(damaged)}: removed, {stage.name} comes anew")
    return outcome


def progress(line):
    """(step, steps) of a progress line such as "step 1200/5001 …", or None."""
    match = _PROGRESS.search(line)
    return (int(match[1]), int(match[2])) if match and int(match[2]) > 0 else None


def _outcome(name, lines):
    # DVC tries to pull before it runs a stage
    if any(line.startswith(f"Running stage '{name}'") for line in lines):
        return RAN
    for line in lines:
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
