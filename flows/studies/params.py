"""The file of a study, studies/<name>.yaml: what is compared, with how many seeds, and what difference matters."""

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydantic

from gan.errors import ParamsError, UserError
from gan.params import Section, parse_section, parse_yaml, read_text

STUDIES = Path("studies")
SECTION = "study"
BASELINE = "baseline"
MOST_VARIANTS = 200
_NAME = r"^[a-z0-9](\.?[a-z0-9_-])*$"  # a part of the name of a git reference, in which no two dots may follow each other
_SAFE = re.compile(r"[^A-Za-z0-9.+-]+|(?<=\.)\.+")
_COLUMNS = ("variant", "seed", "commit")  # of the table of runs, which has one for each axis as well


class Metric(Section):
    """One metric that decides."""

    better: Literal["lower", "higher"]
    smallest_difference: float = pydantic.Field(gt=0)  # that matters, in the metric's unit


class Seeds(Section):
    """Which seeds every variant is trained with."""

    parameter: str = pydantic.Field(min_length=1)  # which they are values of, such as train.seed
    first: int = pydantic.Field(ge=0)
    count: int = pydantic.Field(ge=2, le=1000)  # that every variant gets
    most: int = pydantic.Field(ge=2, le=1000)  # with --until-decided

    @pydantic.model_validator(mode="after")
    def _most_is_not_less(self):
        if self.most < self.count:
            raise ValueError(f"seeds.most = {self.most} is less than seeds.count = {self.count}")
        return self

    def looks(self):
        """The numbers of seeds at which the study is judged: `count`, then twice as many each time, and `most` at last."""
        counts = [self.count]
        while counts[-1] < self.most:
            counts.append(min(2 * counts[-1], self.most))
        return tuple(counts)


class Variant(Section):
    """Parameters: a named set, or params.yaml's own where `set` is null, with overrides."""

    set: str | None = pydantic.Field(pattern=_NAME)
    overrides: list[str]  # such as train.steps=1000


class Axis(Section):
    """One axis of a grid: the values that its parameters take together."""

    parameters: list[str] = pydantic.Field(min_length=1)  # such as train.generator_adam.learning_rate
    values: list[pydantic.JsonValue] = pydantic.Field(min_length=1)


class StudyParams(Section):
    """What a study compares and how it is decided. With neither variants nor a grid it looks at the baseline's seeds alone."""

    question: str = pydantic.Field(min_length=1, max_length=300)  # the heading of its page
    stage: str = pydantic.Field(min_length=1)  # every run goes as far as this stage
    metrics: dict[str, Metric] = pydantic.Field(min_length=1)  # by the keys of the stages' metrics files
    seeds: Seeds
    paired: bool  # compare runs of the same seed pair by pair
    baseline: Variant
    variants: dict[str, Variant]
    grid: dict[str, Axis]  # every combination of the axes' values, each on top of the baseline

    @pydantic.model_validator(mode="after")  # of one field, its error would show all that the field holds
    def _names(self):
        for kind, names in {"variant": self.variants, "axis": self.grid}.items():
            for name in names:
                if name == BASELINE:
                    raise ValueError(f"the {kind} {name!r}: what all variants are compared with has this name")
                if not re.fullmatch(_NAME, name):
                    raise ValueError(f"the {kind} {name!r}: expected small letters, digits, '_', '-' and single '.'")
                if kind == "axis" and name in _COLUMNS:
                    raise ValueError(f"the axis {name!r}: the table of runs has a column of this name")
        for name in self.metrics:
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
                raise ValueError(f"the metric {name!r}: expected letters, digits, '.', '_' and '-'")
        return self

    @pydantic.model_validator(mode="after")
    def _leaves_the_seed_alone(self):
        changed = [
            override.partition("=")[0].strip() for one in (self.baseline, *self.variants.values()) for override in one.overrides
        ]
        changed += [name for axis in self.grid.values() for name in axis.parameters]
        if self.seeds.parameter in changed:
            raise ValueError(f"{self.seeds.parameter} is the seeds' own parameter; no variant may set it")
        if len(self.every_variant()) > MOST_VARIANTS:
            raise ValueError(f"{len(self.every_variant())} variants; expected at most {MOST_VARIANTS}")
        return self

    def every_variant(self):
        """Name -> NamedVariant: the baseline first, then the named ones, then the grid's combinations."""
        found = {BASELINE: NamedVariant(BASELINE, self.baseline.set, tuple(self.baseline.overrides), {})}
        for name, one in self.variants.items():
            found[name] = NamedVariant(name, one.set, tuple(one.overrides), {})
        if self.grid:
            for values in itertools.product(*(axis.values for axis in self.grid.values())):
                point = dict(zip(self.grid, values, strict=True))
                name = ",".join(f"{axis}={_SAFE.sub('_', _text(value)).strip('_')}" for axis, value in point.items())
                if name in found:
                    raise ValueError(f"two points of the grid have the name {name}")
                changes = [f"{p}={json.dumps(point[axis])}" for axis, one in self.grid.items() for p in one.parameters]
                found[name] = NamedVariant(name, self.baseline.set, (*self.baseline.overrides, *changes), point)
        return found


@dataclass(frozen=True)
class NamedVariant:
    """One variant of a study, the baseline included."""

    name: str
    set: str | None
    overrides: tuple[str, ...]
    point: dict  # axis -> value, of a grid's combination; else empty


def study_names(root):
    """The names of all studies in the project's folder `root`, in alphabetical order."""
    return sorted(path.stem for path in (Path(root) / STUDIES).glob("*.yaml"))


def read_text_of(root, name):
    """The text of the file of the study `name` in the project's folder `root`; raises UserError in one line."""
    known = study_names(root)
    if name not in known:
        raise UserError(
            f"there is no study {name!r} in {STUDIES}/; " + (f"it has {', '.join(known)}" if known else "docs/studies.md")
        )
    return read_text(Path(root) / STUDIES / f"{name}.yaml")


def parse_study(text, name):
    """The StudyParams that the text of the file of the study `name` says; raises ParamsError in one line."""
    path = STUDIES / f"{name}.yaml"
    if not re.fullmatch(_NAME, name):
        raise ParamsError(f"{path}: expected a name of small letters, digits, '_', '-' and single '.'")
    content = parse_yaml(text, path)
    if list(content) != [SECTION]:
        raise ParamsError(f"{path}: expected the section {SECTION!r} alone, got {', '.join(map(str, content))}")
    return parse_section(content[SECTION], SECTION, StudyParams, path)


def _text(value):
    return value if isinstance(value, str) else json.dumps(value)
