"""One machine at a time makes the same result: a ref on the git remote says who is at it, and the others wait to restore it.

The ref points to a note that its owner renews. A note that does not change for `flow.claim_seconds` is a dead owner's, by the
clock of the one who waits, and git lets exactly one of those who wait take it over.
"""

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
import uuid

from flows.git import GitError
from flows.lock import Skipped

REFS = "refs/pipeline/claims/"
_COPY = "refs/pipeline/claim-seen/"
_POLL_SECONDS = 3
_TELL_EVERY_SECONDS = 60
_RENEWALS = 4  # in the time after which an owner counts as dead
_LAST_SECONDS = 5  # for giving it back: a run that Prefect cancels has half a minute for all
_REFUSALS = 5  # of a remote that has no such claim, and takes none


def key_of(repository, base, params):
    """The name of what a run makes: the files of the commit `base`, and the text of params.yaml."""
    tree = repository.git("rev-parse", f"{base}^{{tree}}")
    return hashlib.sha256(f"{tree}\n{params}".encode()).hexdigest()[:32]


@contextlib.contextmanager
def claimed(repository, settings, key, *, name, log, deadline):
    """Hold the claim on `key` in the block, after those who have it; where the remote cannot be asked, go on without one.

    settings: the FlowParams; its `overlap` decides between waiting and raising Skipped.
    log: gets a line where one waits, or goes on without.
    """
    if not repository.has_remote(settings.git_remote):
        yield
        return
    claim = Claim(repository, settings, key, name, log)
    try:
        held = claim.take(settings.overlap, deadline)
    except GitError as error:
        log(f"no claim on {settings.git_remote}, another machine may make the same: {error}")
        held = False
    if not held:
        yield
        return
    with claim.kept():
        yield


class Claim:
    """The claim on `key` of this clone; see `claimed`."""

    def __init__(self, repository, settings, key, name, log):
        self._repository = repository
        self._remote = settings.git_remote
        self._dead_after_seconds = settings.claim_seconds
        self._ref = REFS + key
        self._copy = _COPY + key
        self._log = log
        self._note = {"machine": _machine(repository), "host": socket.gethostname(), "run": name}
        self._held = None  # the object that the ref points to, as far as this clone knows
        self._made = set()  # all objects that this clone let it point to, or tried to
        self._ended = threading.Event()

    def take(self, overlap, deadline):
        """Take the claim; False where the remote lets nobody have one. Raises GitError, Skipped and TimeUp."""
        refusals, seen, since, told = 0, None, 0.0, 0.0
        while True:
            found = self._found()
            if found != seen:
                seen, since = found, time.monotonic()
                refusals = refusals if found is None else 0  # a remote that takes another's takes claims
            owner = None if found is None else self._read()
            mine = owner is not None and owner.get("machine") == self._note["machine"]  # a run here that was killed
            if found is None or mine or time.monotonic() - since > self._dead_after_seconds:
                if self._replace(found):
                    return True
                refusals += 1
                if refusals == _REFUSALS:
                    self._log(f"{self._remote} takes no claims; another machine may make the same")
                    return False
                continue
            who = "a run" if owner is None else f"the run {owner.get('run')} on {owner.get('host')}"
            if overlap == "skip":
                raise Skipped(f"skipped: {who} makes the same")
            if time.monotonic() - told > _TELL_EVERY_SECONDS or not told:
                self._log(f"waiting: {who} makes the same")
                told = time.monotonic()
            deadline.require()
            time.sleep(_POLL_SECONDS)

    @contextlib.contextmanager
    def kept(self):
        """Renew the claim in the block, and give it back at its end, unless the remote does not answer for some seconds."""
        keeper = threading.Thread(target=self._keep, daemon=True)
        keeper.start()
        try:
            yield
        finally:
            self._ended.set()
            keeper.join(_LAST_SECONDS)

    def _keep(self):
        while not self._ended.wait(self._dead_after_seconds / _RENEWALS):
            try:
                if not self._replace(self._held):
                    self._log("another machine took over what this run makes: nothing was heard of this one for too long")
                    return
            except (GitError, OSError):  # out of reach for a moment, or of memory
                continue
        with contextlib.suppress(GitError, OSError):  # others will see that it is renewed no more
            self._give_back()

    def _give_back(self):
        try:
            self._push(None, self._held)
        except GitError:
            if (found := self._found()) in self._made:
                self._push(None, found)

    def _replace(self, expected):
        """Let the ref point to a new note if it still points to `expected`; whether it points to one of this claim's.

        Raises GitError where the remote is out of reach.
        """
        note = {**self._note, "time": time.time(), "once": uuid.uuid4().hex}
        new = self._repository.git("hash-object", "-w", "--stdin", stdin=json.dumps(note))
        self._made.add(new)
        try:
            self._push(new, expected)
        except GitError:
            new = self._found()  # the push may have got there, and its answer been lost
            if new not in self._made:
                return False
        self._held = new
        return True

    def _push(self, new, expected):
        lease = f"--force-with-lease={self._ref}:{expected or ''}"
        self._repository.over_network("push", "--quiet", lease, self._remote, f"{new or ''}:{self._ref}")

    def _found(self):
        """The object that the ref points to, or None; raises GitError where the remote is out of reach."""
        return self._repository.over_network("ls-remote", self._remote, self._ref).partition("\t")[0] or None

    def _read(self):
        """The note that the ref points to by now, a dict, or None where it has just gone."""
        try:
            self._repository.over_network(
                "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", self._remote, f"+{self._ref}:{self._copy}"
            )
            return json.loads(self._repository.git("cat-file", "blob", self._copy))
        except (GitError, ValueError):
            return None
        finally:
            self._repository.succeeds("update-ref", "-d", self._copy)


def left_over(repository, remote, older_than_seconds):
    """(ref, object) of the claims on the remote whose owners last renewed them that long ago; raises GitError."""
    listed = [line.split("\t") for line in repository.over_network("ls-remote", remote, f"{REFS}*").splitlines()]
    if not listed:
        return []
    repository.over_network("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", remote, f"+{REFS}*:{_COPY}*")
    old = []
    for found, ref in listed:
        with contextlib.suppress(GitError, ValueError):
            note = json.loads(repository.git("cat-file", "blob", found))
            if time.time() - note.get("time", 0) > older_than_seconds:
                old.append((ref, found))
        repository.succeeds("update-ref", "-d", _COPY + ref.removeprefix(REFS))
    return old


def remove(repository, remote, ref, found):
    """Remove a claim that is left over, if it is still the same; raises GitError."""
    repository.over_network("push", "--quiet", f"--force-with-lease={ref}:{found}", remote, f":{ref}")


def _machine(repository):
    """What tells this clone from all others, those included that are copies of its folder."""
    file = repository.root / ".dvc" / "tmp" / "clone-id"
    with contextlib.suppress(FileExistsError), open(file, "x", encoding="utf-8") as new:
        new.write(uuid.uuid4().hex)
    return hashlib.sha256(file.read_bytes() + os.fsencode(repository.root)).hexdigest()[:32]
