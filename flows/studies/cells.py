"""The cells of a study: one run of the pipeline for each variant and seed, and a key of everything that its metrics depend on."""

import copy
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from flows import overrides
from flows.git import Repository
from flows.metrics import merged
from flows.request import Parameters
from flows.sets import for_machine, this_machine
from flows.studies.params import BASELINE, NamedVariant, StudyParams, parse_study, read_text_of
from flows.yaml_text import to_yaml
from gan.errors import ParamsError, UserError
from gan.params import PARAMS, decode, parse_yaml

_MAP = "dvc.yaml"
_SETS = "sets"
_KEY_DIGITS = 8  # of a cell's key that tell its experiment from others of the same name


@dataclass(frozen=True)
class Cell:
    """One variant with one seed."""

    study: str
    variant: str
    seed: int
    key: str  # hex; equal keys are equal runs, whichever commit or study they belong to

    @property
    def name(self):
        """For people; another study's cell, or one of other parameters, may have the same."""
        return f"{self.study}-{self.variant}-s{self.seed}"

    @property
    def experiment(self):
        """The name of the experiment that records it: of runs that are not equal no two share one."""
        return f"{self.name}-{self.key[:_KEY_DIGITS]}"


@dataclass(frozen=True)
class Study:
    """A study at a commit: its cells are runs of that commit's code and parameters."""

    repository: Repository
    name: str
    text: str  # of its file
    params: StudyParams  # what the text says
    base: str  # the commit
    machine: dict[str, str]  # that the runs are for (`flows.sets.this_machine`); one that has not got it refuses them

    @cached_property
    def settings(self):
        """The section `flow` of the commit's parameters."""
        return Parameters.of_text(self._params_text).settings

    @cached_property
    def variants(self):
        """Name -> NamedVariant, the baseline first, without points of the grid that are the baseline itself.

        Raises ParamsError for a named variant that changes nothing.
        """
        found = {}
        for name, variant in self.params.every_variant().items():
            if name == BASELINE or self._values[name] != self._values[BASELINE]:
                found[name] = variant
            elif not variant.point:
                raise ParamsError(f"study {self.name}: {name} has the same parameters as the baseline")
        return found

    @property
    def compares(self):
        """Whether there is a variant to compare with the baseline; else the study looks at the baseline's seeds alone."""
        return len(self.variants) > 1

    def cells(self, variant, count):
        """The Cells of the first `count` seeds of the variant of this name."""
        values, first = self.values(variant), self.params.seeds.first
        found = []
        for seed in range(first, first + count):
            _put(values, self.params.seeds.parameter, seed)
            found.append(Cell(self.name, variant, seed, self._key(values)))
        return found

    def parameters(self, cell):
        """The text of the params.yaml of a Cell."""
        return self._text_of(self.variants[cell.variant], cell.seed)

    def values(self, variant):
        """All parameters of the variant of this name with the first seed, section name -> raw values."""
        return copy.deepcopy(self._values[variant])

    @cached_property
    def _values(self):
        every, seed = self.params.every_variant(), self.params.seeds.first
        return {name: parse_yaml(self._text_of(variant, seed), f"study {self.name}: {name}") for name, variant in every.items()}

    @cached_property
    def _params_text(self):
        return self._read(PARAMS)

    def _text_of(self, variant: NamedVariant, seed):
        text = self._params_text
        if variant.set is not None:
            text = _with_sections(text, for_machine(self._read(f"{_SETS}/{variant.set}.yaml"), self.machine))
        try:
            return overrides.apply(text, (*variant.overrides, f"{self.params.seeds.parameter}={seed}"))
        except ParamsError as error:
            raise ParamsError(f"study {self.name}: {variant.name}: {error}") from None

    def _read(self, path):
        content = self.repository.read_at(self.base, path)
        if content is None:
            raise UserError(f"study {self.name}: commit {self.base[:12]} has no {path}; commit it first")
        return decode(content, path)

    def committed_metrics(self):
        """The numbers in the metrics files that are committed at the base, one flat dict."""
        stages = parse_yaml(self._read(_MAP), _MAP)["stages"]
        paths = [path for stage in stages.values() for path in _paths(stage.get("metrics", ()))]
        return merged({path: self.repository.read_at(self.base, path) for path in paths})

    def _key(self, values):
        needed = {
            name: {**stage, "params": {key: overrides.lookup(values, key) for key in stage["params"]}}
            for name, stage in self._needed.items()
        }
        return hashlib.sha256(json.dumps(needed, sort_keys=True, default=str).encode()).hexdigest()

    @cached_property
    def _needed(self):
        """Stage name -> what dvc.yaml says of it and git of its files, for the study's stage and all that it needs."""
        stages = parse_yaml(self._read(_MAP), _MAP)["stages"]
        if self.params.stage not in stages:
            raise ParamsError(f"study {self.name}: there is no stage {self.params.stage!r} in {_MAP}; it has {', '.join(stages)}")
        makers = {path: name for name, stage in stages.items() for path in _made(stage)}
        needed, pending = {}, [self.params.stage]
        while pending:
            name = pending.pop()
            if name in needed:
                continue
            stage, files = stages[name], []
            for path in stage.get("deps", ()):
                found = {maker for made, maker in makers.items() if _overlap(made, path)}
                pending += found
                files += [] if found else [path]
            entries = stage.get("params", ())
            needed[name] = {
                "cmd": stage["cmd"],
                "deps": sorted(stage.get("deps", ())),
                "params": [entry for entry in entries if isinstance(entry, str)],
                "files": self._blobs([*files, *(path for entry in entries if isinstance(entry, dict) for path in entry)]),
            }
        return needed

    def _blobs(self, paths):
        """What git says of the content of files and folders at the commit."""
        return self.repository.git("ls-tree", "-r", self.base, "--", *paths).splitlines() if paths else []


def find_study(repository, name, base="HEAD"):
    """The Study `name` of the working tree at the commit `base`; raises UserError in one line for whatever is wrong with it."""
    return study_of_text(repository, name, read_text_of(repository.root, name), base)


def study_of_text(repository, name, text, base, machine=None):
    """The Study `name` whose file has this text, at the commit `base`; raises UserError as `find_study` does.

    machine: that its runs are for, by default this one.
    """
    study = Study(repository, name, text, parse_study(text, name), repository.commit_id(base), this_machine() | (machine or {}))
    for variant in study.variants:
        study.cells(variant, 1)
    return study


def _with_sections(text, replacing):
    """The parameters `text` with the sections of the YAML text `replacing` in place of its own."""
    content = parse_yaml(text, keep_comments=True)
    content.update(parse_yaml(replacing))
    return to_yaml(content)


def _made(stage):
    return _paths([*stage.get("outs", ()), *stage.get("metrics", ()), *stage.get("plots", ())])


def _paths(entries):
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def _overlap(one, other):
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _put(values, name, value):
    *parents, last = name.split(".")
    for parent in parents:
        values = values[parent]
    values[last] = value
