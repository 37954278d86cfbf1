"""A finished run as a version: a commit and annotated tags that name it.

The commit's message says where the version comes from, one line each ("Gate: accepted"); versions are read from it again.
"""

import contextlib
import datetime
import re
from dataclasses import dataclass

from flows.gate import LOCK, Verdict
from gan.errors import UserError
from gan.params import PARAMS

_TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_TIME_OF_TAG = re.compile(r"run/(\d{8}T\d{6}Z)-")
UNPUSHED = "refs/pipeline/unpushed/"  # one ref a version that is not on the remotes yet


@dataclass(frozen=True)
class Version:
    """One recorded run, read from its tag."""

    tag: str  # run/<UTC>-<id>
    commit: str
    flow_run: str  # its id in Prefect
    base: str  # the commit that it started from
    gate: str  # "accepted", "worse" or "partial"
    gate_message: str
    accepted_as: str | None  # the artifact version that it became
    metrics_files: tuple[str, ...]
    pushed: bool


@dataclass(frozen=True)
class NewVersion:
    """One run that is to be recorded."""

    tag: str
    flow_run: str
    base: str
    verdict: Verdict
    accepted_as: str | None
    files: tuple[str, ...]  # what to commit
    metrics_files: tuple[str, ...]
    overrides: tuple[str, ...]

    def message(self):
        """The commit's message; `_of_tag` reads it again."""
        lines = [
            f"Flow-Run: {self.flow_run}",
            f"Base-Commit: {self.base}",
            f"Gate: {self.verdict.mark}",
            f"Gate-Message: {self.verdict.message}",
            *(f"Metrics-File: {path}" for path in self.metrics_files),
            *(f"Override: {override}" for override in self.overrides),
        ]
        return "\n".join([f"Record {self.tag}", "", self.verdict.message, "", *lines, ""])


def tag_name(flow_run, previous):
    """run/<UTC>-<the first eight characters of the flow run's id>.

    Versions are in the order of their names. So the time is later than that of `previous`, the newest Version (or None), even
    where the clock was put back or another machine's is ahead.
    """
    now = datetime.datetime.now(datetime.UTC)
    if previous is not None and (match := _TIME_OF_TAG.match(previous.tag)):
        with contextlib.suppress(ValueError, OverflowError):  # a tag that somebody made by hand
            last = datetime.datetime.strptime(match[1], _TIME_FORMAT).replace(tzinfo=datetime.UTC)
            now = max(now, last + datetime.timedelta(seconds=1))
    return f"run/{now:{_TIME_FORMAT}}-{flow_run[:8]}"


def files_to_commit(description):
    """The lock, the parameters and the outputs that git keeps."""
    return [LOCK, PARAMS, *description.files_in_git()]


def start_from_newest(repository, tree, base):
    """Start `tree` from the results of the newest version if it continues `base`; that version's tag, or None.

    Versions are tags beside the branch, so the branch's own lock does not know them. They continue each other as long as
    nobody commits a lock of their own.
    """
    last = newest(repository)
    if last is None or not repository.succeeds("merge-base", "--is-ancestor", last.base, base):
        return None
    if not repository.succeeds("diff", "--quiet", last.base, base, "--", LOCK):
        return None
    for path in (LOCK, *last.metrics_files):
        content = repository.read_at(last.commit, path)
        if content is not None:
            (tree.root / path).parent.mkdir(parents=True, exist_ok=True)
            (tree.root / path).write_bytes(content)
    return last.tag


def differs(tree, files):
    """Whether `files` in `tree` differ from its commit."""
    paths = _present(tree, files)
    tree.git("add", "--", *paths)
    return not tree.succeeds("diff", "--cached", "--quiet", "--", *paths)


def same_as(tree, files, others):
    """The newest of the versions `others` that has `files` as they are in `tree`, or None."""
    paths = _present(tree, files)
    tree.git("add", "--", *paths)
    return with_the_same_files(tree, "", paths, others)


def record(tree, new):
    """Commit the files of the NewVersion `new`, tag the commit and mark it as not pushed yet."""
    paths = _present(tree, new.files)
    message = new.message()
    options = (*tree.author(), "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false")
    # a person's hooks and staged edits are not part of a run
    tree.git("add", "--", *paths)
    tree.git(*options, "commit", "--quiet", "--no-verify", "--only", "--file=-", "--", *paths, stdin=message)
    head = tree.git("rev-parse", "HEAD")
    tree.git("update-ref", UNPUSHED + new.tag, head)
    tree.git(*options, "tag", "--annotate", "--file=-", new.tag, head, stdin=message)
    if new.accepted_as:
        accept(tree, head, new.accepted_as, verdict=new.verdict, tag=new.tag)


def accept(repository, commit, name, *, verdict, tag):
    """Tag `commit`, the version `tag`, as the accepted version `name`."""
    message = f"{name}: {verdict.message}\n\nRun: {tag}\n"
    options = (*repository.author(), "-c", "tag.gpgsign=false")
    repository.git(*options, "tag", "--annotate", "--file=-", name, commit, stdin=message)


def with_the_same_files(repository, commit, paths, others):
    """The newest of the versions `others` in which each of `paths` is as in `commit` ("" for the index), or None."""
    wanted = _objects(repository, [f"{commit}:{path}" for path in paths])
    found = _objects(repository, [f"{other.commit}:{path}" for other in others for path in paths])
    rows = (found[start : start + len(paths)] for start in range(0, len(found), len(paths)))
    return next((other for other, row in zip(others, rows, strict=True) if row == wanted), None)


def _objects(repository, names):
    """The object that git keeps for each of `names`, such as "HEAD:dvc.lock"; None for one that is not there."""
    answers = repository.git("cat-file", "--batch-check=%(objectname)", stdin="".join(f"{name}\n" for name in names))
    return [None if answer.endswith(" missing") else answer for answer in answers.splitlines()]


def every(repository):
    """All versions, newest first."""
    accepted = accepted_tags(repository)
    unpushed = set(repository.git("for-each-ref", "--format=%(refname)", UNPUSHED).splitlines())
    form = "%(refname:short)%00%(objectname)%00%(*objectname)%00%(contents)%01"
    found = []
    for entry in repository.git("for-each-ref", "--sort=-refname", f"--format={form}", "refs/tags/run/").split("\x01"):
        if entry.strip():
            tag, plain, peeled, message = entry.strip("\n").split("\x00")
            found.append(_of_tag(tag, peeled or plain, message, accepted, unpushed))
    return found


def newest(repository):
    """The newest version, or None."""
    return next(iter(every(repository)), None)


def find(repository, name):
    """The version whose tag is `name`, `run/name`, ends in `name`, or that an artifact tag `name` points to."""
    known = every(repository)
    matches = [item for item in known if name in (item.tag, item.accepted_as) or item.tag.endswith(name)]
    matches = matches or [item for item in known if item.tag.removeprefix("run/").startswith(name)]
    if len(matches) != 1:
        raise UserError(f"{name}: {'several versions match' if matches else 'no such version'}; `gan versions list` shows all")
    return matches[0]


def accepted_tags(repository):
    """Artifact tag -> the commit that it names."""
    lines = repository.git("for-each-ref", "--format=%(refname:short) %(*objectname)", "refs/tags/*@v*").splitlines()
    return dict(line.split(" ", 1) for line in lines if line.count(" ") == 1)


def _present(tree, files):
    return [path for path in files if (tree.root / path).exists()]


def _of_tag(tag, commit, message, accepted, unpushed):
    trailers = {}
    for line in message.splitlines():
        key, separator, value = line.partition(": ")
        if separator and " " not in key:
            trailers.setdefault(key, []).append(value)
    first = {key: values[0] for key, values in trailers.items()}
    names = sorted(name for name, of in accepted.items() if of == commit)
    return Version(
        tag=tag,
        commit=commit,
        flow_run=first.get("Flow-Run", ""),
        base=first.get("Base-Commit", ""),
        gate=first.get("Gate", ""),
        gate_message=first.get("Gate-Message", ""),
        accepted_as=names[-1] if names else None,
        metrics_files=tuple(trailers.get("Metrics-File", ())),
        pushed=UNPUSHED + tag not in unpushed,
    )
