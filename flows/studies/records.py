"""What is known of cells: each is recorded as a DVC experiment, a commit under refs/exps with its parameters, lock and metrics.

`dvc exp show`, `dvc exp diff` and `gan versions compare` see them as they see any experiment, and `dvc gc --all-experiments`
keeps their data. A part is the same of the first stages of a cell that is still under way, under refs/gan.
"""

import re
from dataclasses import dataclass

from ruamel.yaml import YAML

from flows.gate import LOCK
from flows.yaml_text import to_yaml
from gan.files import write_bytes
from gan.params import PARAMS

_REFS = "refs/exps/"
_PARTS = "refs/gan/parts/"
_KEY, _SECONDS, _FILE = "Study-Cell", "Seconds", "Metrics-File"


@dataclass(frozen=True)
class Record:
    """One cell that was run."""

    ref: str
    commit: str
    key: str  # of the Cell
    seconds: float  # that its stages took; 0 where all came from the cache
    metrics_files: tuple[str, ...]

    @property
    def name(self):
        """Of the experiment."""
        return self.ref.rpartition("/")[2]


def every(repository):
    """Key -> Record of all cells that this repository knows, of any study and commit."""
    form = "%(refname)%00%(objectname)%00%(contents)%01"
    found = {}
    for entry in repository.git("for-each-ref", f"--format={form}", _REFS).split("\x01"):
        if entry.strip():
            ref, commit, message = entry.strip("\n").split("\x00")
            if record := _of_commit(ref, commit, message):
                found[record.key] = record
    return found


def record(tree, cell, description, *, stages, base, seconds):
    """Record the results in the worktree `tree` as the Record of a Cell.

    description: the DVC Description of the tree. stages: the names of those that the cell has brought up to date; of all others
    the lock in the record says nothing.
    """
    _keep_stages(tree.root / LOCK, stages)
    kept = _kept_by_git(description, stages)
    files = [out.path for out in kept if out.metric]
    lines = [f"{_KEY}: {cell.key}", f"{_SECONDS}: {seconds:.1f}", *(f"{_FILE}: {path}" for path in files)]
    message = "\n".join([f"Study {cell.study}: {cell.variant}, seed {cell.seed}", "", *lines, ""])
    commit = _commit(tree, kept, base, message)
    ref = f"{_REFS}{base[:2]}/{base[2:]}/{cell.experiment}"
    tree.git("update-ref", ref, commit)
    return Record(ref, commit, cell.key, seconds, tuple(files))


def record_part(tree, cell, description, *, stages, base):
    """Record what a Cell has so far, the results of `stages` in the worktree `tree`; a part that there was is replaced."""
    lock = (tree.root / LOCK).read_bytes()
    try:
        _keep_stages(tree.root / LOCK, stages)
        message = f"Study {cell.study}: {cell.variant}, seed {cell.seed}, as far as {stages[-1]}\n"
        tree.git("update-ref", part_ref(cell.key), _commit(tree, _kept_by_git(description, stages), base, message))
    finally:
        write_bytes(tree.root / LOCK, lock)


def part_ref(key):
    """The reference of the part of the Cell with this key."""
    return f"{_PARTS}{key}"


def parts(repository):
    """The commits of all parts that this repository knows."""
    return repository.git("for-each-ref", "--format=%(objectname)", _PARTS).split()


def forget_parts(repository, keys):
    """Forget the parts of the cells with these keys."""
    for ref in repository.git("for-each-ref", "--format=%(refname)", _PARTS).split():
        if ref.removeprefix(_PARTS) in keys:
            repository.git("update-ref", "-d", ref)


def _kept_by_git(description, stages):
    return [out for stage in description.stages if stage.name in stages for out in stage.outs if not out.cached]


def _commit(tree, outs, base, message):
    """A commit on top of `base` with the lock, the parameters and the `outs` of the worktree."""
    paths = [path for path in (LOCK, PARAMS, *(out.path for out in outs)) if (tree.root / path).exists()]
    tree.git("add", "--force", "--", *paths)
    return tree.git(*tree.author(), "commit-tree", tree.git("write-tree"), "-p", base, "-F", "-", stdin=message)


def _keep_stages(path, names):
    lock = YAML().load(path)
    for name in set(lock["stages"]) - set(names):
        del lock["stages"][name]
    write_bytes(path, to_yaml(lock).encode())


def _of_commit(ref, commit, message):
    fields = re.findall(r"^([A-Z][A-Za-z-]+): (.+)$", message, re.MULTILINE)
    first = dict(reversed(fields))
    if _KEY not in first or ref.count("/") != 4:
        return None
    files = tuple(value for name, value in fields if name == _FILE)
    return Record(ref, commit, first[_KEY], float(first.get(_SECONDS, 0)), files)
