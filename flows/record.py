"""A finished run as a version: a commit, annotated tags that name it, a push with the data first; if it fails, a later one."""

import datetime
import json
from dataclasses import dataclass
from pathlib import Path

from flows.dvc_session import DvcSession
from flows.gate import flatten
from flows.git import GitError, git, has_remote, identity, read_at, succeeds
from flows.overrides import PARAMS
from flows.worktree import worktree
from gan.errors import UserError

LOCK = "dvc.lock"
_UNPUSHED = "refs/pipeline/unpushed/"  # one ref a version that is not on the remotes yet


@dataclass(frozen=True)
class Version:
    """One recorded run, read from its tag `run/<UTC>-<id>`."""

    tag: str
    commit: str
    flow_run: str
    base: str
    gate: str  # "accepted", "worse" or "partial"
    gate_message: str
    accepted_as: str | None  # the artifact version that it became
    metrics_files: tuple[str, ...]
    pushed: bool


def tag_name(run_id, now=None):
    """run/<UTC>-<the first eight characters of the flow run's id>."""
    now = now or datetime.datetime.now(datetime.UTC)
    return f"run/{now:%Y%m%dT%H%M%SZ}-{run_id[:8]}"


def files_of(description):
    """(files to commit, metrics files among them): the lock, the parameters and the outputs that git keeps."""
    uncached = [out for stage in description.stages for out in stage.outs if not out.cached]
    return [LOCK, PARAMS, *(out.path for out in uncached)], [out.path for out in uncached if out.metric]


def newest(root):
    """The newest version, or None."""
    found = versions(root)
    return found[0] if found else None


def seed(root, tree, base):
    """Start `tree` from the results of the newest version if it continues `base`, so that what it did is not done again.

    Versions are tags beside the branch, so the branch's own lock does not know them. They continue each other as long as
    nobody commits a lock of their own.
    """
    last = newest(root)
    if last is None or not succeeds(root, "merge-base", "--is-ancestor", last.base, base):
        return None
    if not succeeds(root, "diff", "--quiet", last.base, base, "--", LOCK):
        return None
    for path in (LOCK, *last.metrics_files):
        content = read_at(root, last.commit, path)
        if content is not None:
            (Path(tree) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(tree) / path).write_bytes(content)
    return last.tag


def changed(tree, files, newest_version):
    """Whether `files` in `tree` differ from its commit and from `newest_version` (None: there is none, or it does not count)."""
    paths = [path for path in files if (Path(tree) / path).exists()]
    git(tree, "add", "--", *paths)
    if succeeds(tree, "diff", "--cached", "--quiet", "--", *paths):
        return False
    return newest_version is None or not succeeds(tree, "diff", "--cached", "--quiet", newest_version.commit, "--", *paths)


def commit(tree, *, files, metrics_files, tag, subject, flow_run, base, gate, accepted_as, overrides=()):
    """Commit `files` of `tree`, tag the commit `tag` and, if it is accepted, `accepted_as`; mark it as not pushed yet."""
    paths = [path for path in files if (Path(tree) / path).exists()]
    trailers = [
        ("Flow-Run", flow_run),
        ("Base-Commit", base),
        ("Gate", gate.mark),
        ("Gate-Message", gate.message),
        *(("Metrics-File", path) for path in metrics_files),
        *(("Override", override) for override in overrides),
    ]
    message = f"{subject}\n\n{gate.message}\n\n" + "\n".join(f"{key}: {value}" for key, value in trailers) + "\n"
    who = (*identity(tree), "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false")
    # a person's hooks and staged edits are not part of a run
    git(tree, "add", "--", *paths)
    git(tree, *who, "commit", "--quiet", "--no-verify", "--only", "--file=-", "--", *paths, stdin=message)
    head = git(tree, "rev-parse", "HEAD")
    git(tree, "update-ref", _UNPUSHED + tag, head)
    git(tree, *who, "tag", "--annotate", "--file=-", tag, head, stdin=message)
    if accepted_as:
        git(
            tree, *who, "tag", "--annotate", "--file=-", accepted_as, head, stdin=f"{accepted_as}: {gate.message}\n\nRun: {tag}\n"
        )
    return head


def versions(root):
    """All versions, newest first."""
    accepted = _accepted(root)
    unpushed = set(git(root, "for-each-ref", "--format=%(refname)", _UNPUSHED).splitlines())
    form = "%(refname:short)%00%(objectname)%00%(*objectname)%00%(contents)%01"
    found = []
    for entry in git(root, "for-each-ref", "--sort=-refname", f"--format={form}", "refs/tags/run/").split("\x01"):
        if entry.strip():
            tag, plain, peeled, message = entry.strip("\n").split("\x00")
            found.append(_version(tag, peeled or plain, message, accepted, unpushed))
    return found


def find(root, name):
    """The version whose tag is `name`, `run/name`, ends in `name`, or that an artifact tag `name` points to."""
    every = versions(root)
    matches = [item for item in every if name in (item.tag, item.accepted_as) or item.tag.endswith(name)]
    matches = matches or [item for item in every if item.tag.removeprefix("run/").startswith(name)]
    if len(matches) != 1:
        raise UserError(
            f"{name}: {'several versions match' if matches else 'no such version'}; `python -m flows.versions list` shows all"
        )
    return matches[0]


def metrics(root, version):
    """The numbers of a version's metrics files, one flat dict; a key that two files share gets its file's name in front."""
    merged = {}
    for path in version.metrics_files:
        content = read_at(root, version.commit, path)
        for key, value in flatten(json.loads(content or b"{}")).items():
            merged[f"{path}:{key}" if key in merged else key] = value
    return merged


def forget(root, tags):
    """Delete versions' tags here."""
    git(root, "tag", "--delete", *tags)
    for tag in tags:
        git(root, "update-ref", "-d", _UNPUSHED + tag)


def publish(root, *, git_remote, log, grace_seconds):
    """Push every version that is not on the remotes yet, its data before its tags; returns the errors, one line a version."""
    errors = []
    for reference in git(root, "for-each-ref", "--format=%(refname)", _UNPUSHED).splitlines():
        tag = reference.removeprefix(_UNPUSHED)
        if not succeeds(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}"):
            git(root, "update-ref", "-d", reference)  # pruned, or killed between the two
            continue
        try:
            if _push(root, tag, git_remote, grace_seconds):
                git(root, "update-ref", "-d", reference)
                log(f"pushed {tag}")
        except UserError as error:
            errors.append(f"{tag} is not pushed, the next run tries again: {error}")
    return errors


def fetch(root, git_remote, log):
    """Learn of the versions that others pushed; a remote out of reach is no reason not to run."""
    if has_remote(root, git_remote):
        try:
            git(root, "fetch", "--quiet", git_remote, "refs/tags/*:refs/tags/*")
        except GitError as error:
            log(f"cannot fetch versions from {git_remote}: {error}")


def _push(root, tag, git_remote, grace_seconds):
    """Push one version; False where there is nowhere to push to."""
    with worktree(root, tag, f"push-{tag.rpartition('-')[2]}") as tree, DvcSession(tree, grace_seconds=grace_seconds) as session:
        session.share(root)
        remote = session.describe().remote
        code, lines = session.dvc("push") if remote else (0, [])
        if code != 0:
            raise UserError(f"dvc push: {' '.join(line for line in lines if line.startswith('ERROR'))[:500]}")
    if not has_remote(root, git_remote):
        return bool(remote)
    tags = [tag, *(name for name, of in _accepted(root).items() if of == git(root, "rev-parse", f"{tag}^{{commit}}"))]
    git(root, "push", "--quiet", git_remote, *(f"refs/tags/{name}:refs/tags/{name}" for name in tags))
    return True


def _accepted(root):
    """Artifact tag -> the commit that it names."""
    lines = git(root, "for-each-ref", "--format=%(refname:short) %(*objectname)", "refs/tags/*@v*").splitlines()
    return dict(line.split(" ", 1) for line in lines if line.count(" ") == 1)


def _version(tag, commit_id, message, accepted, unpushed):
    trailers = {}
    for line in message.splitlines():
        key, separator, value = line.partition(": ")
        if separator and " " not in key:
            trailers.setdefault(key, []).append(value)
    one = {key: values[0] for key, values in trailers.items()}
    names = sorted(name for name, of in accepted.items() if of == commit_id)
    return Version(
        tag=tag,
        commit=commit_id,
        flow_run=one.get("Flow-Run", ""),
        base=one.get("Base-Commit", ""),
        gate=one.get("Gate", ""),
        gate_message=one.get("Gate-Message", ""),
        accepted_as=names[-1] if names else None,
        metrics_files=tuple(trailers.get("Metrics-File", ())),
        pushed=_UNPUSHED + tag not in unpushed,
    )
