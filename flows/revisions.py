"""A state of the project, by any of its names, and the files that it has: from the working tree, from git, or from DVC."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from flows import versions
from flows.git import GitError, Repository
from flows.metrics import merged
from flows.overrides import lookup
from gan.errors import DataError, ParamsError, UserError
from gan.params import PARAMS, parse_yaml

WORKING_TREE = (".", "workspace")  # its names
_MAP = "dvc.yaml"


@dataclass(frozen=True)
class Revision:
    """A commit, or the working tree."""

    repository: Repository
    name: str  # as somebody asked for it
    commit: str | None  # None for the working tree

    def __str__(self):
        return "the working tree" if self.commit is None else self.name

    def read(self, path):
        """The bytes of the file `path` that git keeps, or None where there is none."""
        if self.commit is not None:
            return self.repository.read_at(self.commit, path)
        file = self.repository.root / path
        return file.read_bytes() if file.is_file() else None

    def fetch(self, path, folder):
        """The file `path` that DVC keeps, as a path on this machine: the working tree's own, or a copy in `folder`.

        It comes from DVC's cache, else from its remote. Raises DataError in one line where it is in neither.
        """
        if self.commit is None:
            file = self.repository.root / path
            if not file.is_file():
                raise DataError(f"{path}: no such file; `dvc repro` or `dvc pull` brings it")
            return file
        copy = Path(folder) / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            copy.write_bytes(self._files.read_bytes(path))
        except Exception as error:  # DVC, its index and its remotes' libraries have classes of their own, with no base in common
            raise DataError(f"no {path} of {self}: {' '.join(str(error).split())}") from None
        return copy

    def params(self):
        """All parameters, section name -> raw values; raises ParamsError."""
        content = self.read(PARAMS)
        if content is None:
            raise ParamsError(f"{self} has no {PARAMS}")
        return parse_yaml(content.decode(errors="replace"), f"{PARAMS} of {self}")

    def metrics(self):
        """The numbers of the metrics files that git keeps, one flat dict."""
        contents = {path: self.read(path) for path in self._metrics_files()}
        try:
            return merged(contents)
        except DataError as error:
            raise DataError(f"{self}: {error}") from None

    def stale_params(self):
        """Dotted names of the parameters that have another value now than when the results were made."""
        params = self.params()
        found = set()
        for stage in self._sections(versions.LOCK, "stages"):
            for file in _values(stage.get("params")):
                for name, value in _items(file):
                    found.update(_differing(name, value, lookup(params, name)))
        return sorted(found)

    def stale_files(self):
        """Paths of files that are others now than when the results were made: what stages read, and metrics that git keeps.

        What one stage has made for another is compared in dvc.lock alone, which tells so of a run that was stopped between them.
        """
        stages = self._sections(versions.LOCK, "stages")
        made = {out["path"]: out.get("md5") for stage in stages for out in stage.get("outs", ())}
        read = {dep["path"]: dep["md5"] for stage in stages for dep in stage.get("deps", ()) if dep.get("hash") == "md5"}
        found = {path for path, digest in read.items() if made.get(path, digest) != digest}
        kept = {path: digest for path, digest in read.items() if not (_within(path, made) or digest.endswith(".dir"))}
        kept |= {path: made[path] for path in self._metrics_files() if path in made}
        for path, digest in kept.items():
            content = self.read(path)
            if content is not None and hashlib.md5(content, usedforsecurity=False).hexdigest() != digest:
                found.add(path)
        return sorted(found)

    @cached_property
    def _files(self):
        import dvc.api

        return dvc.api.DVCFileSystem(str(self.repository.root), rev=self.commit)

    def _metrics_files(self):
        entries = [entry for stage in self._sections(_MAP, "stages") for entry in stage.get("metrics") or []]
        options = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
        return [path for path, option in options if isinstance(option, dict) and option.get("cache") is False]

    def _sections(self, path, key):
        """The mappings under `key` of a YAML file that DVC reads or writes; none where there is no such file."""
        from ruamel.yaml import YAML, YAMLError

        try:
            content = YAML(typ="safe").load(self.read(path) or b"{}")
        except YAMLError as error:
            raise DataError(f"{path} of {self}: not valid YAML: {' '.join(str(error).split())[:300]}") from None
        return [section for section in _values(content.get(key)) if isinstance(section, dict)]


def find(repository, name):
    """The Revision that `name` means; raises UserError in one line.

    A tag, branch or commit; a DVC experiment; a version as `flows.versions.find` takes it; "." or "workspace" for the working
    tree.
    """
    if name in WORKING_TREE:
        return Revision(repository, name, None)
    if not name or name.startswith("-"):
        raise UserError(f"{name!r}: expected a tag, branch, commit, experiment or version, which never begins with a dash")
    commit = _commit(repository, name) or _experiment(repository, name)
    if commit is None:
        try:
            commit = versions.find(repository, name).commit
        except UserError:
            raise UserError(
                f"{name}: no such tag, branch, commit or experiment, and not one version; `gan versions list` shows versions"
            ) from None
    return Revision(repository, name, commit)


def _commit(repository, name):
    try:
        found = repository.commit_id(name)
    except GitError:
        return None
    return found if re.fullmatch("[0-9a-f]{40,64}", found) else None  # "^main" is an answer of git's, but no commit


def _experiment(repository, name):
    """The commit of the experiment `name`: of several, one of HEAD's or else of the nearest commit before it that has one.

    The name of a study's run may be given without its end, which tells it from runs with other parameters.
    """
    form = "--format=%(objectname) %(refname)"
    lines = [line.split(" ", 1) for line in repository.git("for-each-ref", form, "refs/exps/").splitlines()]
    found = {}  # the commit that it began at -> end of the name -> its own commit
    for commit, ref in lines:
        if match := re.fullmatch(rf"refs/exps/([0-9a-f]{{2}})/([0-9a-f]+)/{re.escape(name)}((?:-[0-9a-f]{{8}})?)", ref):
            found.setdefault(match[1] + match[2], {})[match[3]] = commit
    if not found:
        return None
    bases = found if len(found) == 1 else repository.git("rev-list", "HEAD").splitlines()
    nearest = next((found[base] for base in bases if base in found), {})
    if "" in nearest:
        return nearest[""]
    if len(nearest) != 1:
        raise UserError(f"{name}: several experiments have this name; give the commit that `dvc exp show` prints")
    return next(iter(nearest.values()))


def _within(path, outs):
    """Whether `path` is one of `outs` or in one of them."""
    return any(str(part) in outs for part in (path, *PurePosixPath(path).parents))


def _values(mapping):
    return list(mapping.values()) if isinstance(mapping, dict) else []


def _items(mapping):
    return list(mapping.items()) if isinstance(mapping, dict) else []


def _differing(name, value, other):
    """The dotted names, `name` or under it, of the values that differ in `value` and `other`."""
    if not (isinstance(value, dict) and isinstance(other, dict)):
        return [] if value == other else [name]
    keys = [*value, *(key for key in other if key not in value)]
    return [found for key in keys for found in _differing(f"{name}.{key}", value.get(key), other.get(key))]
