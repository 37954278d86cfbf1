"""The `flow:` section of params.yaml: what a run does beside the stages. Read by flows only; no stage depends on it."""

import re
import shlex
from pathlib import PurePath
from typing import Annotated, Literal

import pydantic

from gan.params import Section


def _a_pattern(value):
    """A pattern of files below the project, such as Path.glob takes."""
    parts = PurePath(value).parts
    if not parts or value.startswith("/") or ".." in parts or any("**" in part and part != "**" for part in parts):
        raise ValueError("expected a path, or a pattern of paths, relative to the project's root and without '..'")
    return value


class Download(Section):
    """The one stage that is retried, and for which failures."""

    stage: str = pydantic.Field(min_length=1)
    attempts: int = pydantic.Field(ge=1, le=10)
    first_delay_seconds: float = pydantic.Field(ge=0)  # doubles from attempt to attempt
    passing_failure: str = pydantic.Field(min_length=1)  # a regular expression on the stage's output

    @pydantic.field_validator("passing_failure")
    @classmethod
    def _compiles(cls, value):
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    def delays_seconds(self):
        """The wait before each further attempt."""
        return [self.first_delay_seconds * 2**number for number in range(self.attempts - 1)]

    def may_pass(self, output):
        """Whether a failure with this output may be gone at the next attempt."""
        return re.search(self.passing_failure, output) is not None


class GateSettings(Section):
    """When a version becomes the accepted one: its metric may be worse than the last accepted by `margin` noises at most.

    The noise of a metric is that of measuring it and that of training: another seed, or any change at all, gives another model.
    Where another judge has measured, its spread counts as well.
    """

    artifact: str = pydantic.Field(pattern=r"^[a-z0-9][a-z0-9-]*$")  # what is accepted; its tags are artifact@v1.2.3
    metrics_file: str
    metric: str  # the key in that file that decides
    noise: str  # the key of one standard deviation of `metric` for one model
    seed_spread: float = pydantic.Field(ge=0, le=1)  # one standard deviation over training seeds, as a share of `metric`
    ruler: str | None  # the out that measures, if one is trained: other bytes are another ruler
    ruler_spread: float = pydantic.Field(ge=0, le=1)  # one standard deviation over such rulers, as a share of `metric`
    direction: Literal["lower", "higher"]  # which is better
    margin: float = pydantic.Field(ge=0)  # in standard deviations of the difference


class FlowParams(Section):
    """What a run does beside the stages; params.yaml says what each value means."""

    check_command: str = pydantic.Field(pattern=r"\{file\}")
    timeout_seconds: float = pydantic.Field(gt=0)
    grace_seconds: float = pydantic.Field(gt=0, le=25)  # Prefect itself kills a cancelled run after 30 s
    overlap: Literal["wait", "skip"]
    git_remote: str = pydantic.Field(min_length=1)
    claim_seconds: float = pydantic.Field(ge=4, le=3600)
    free_gigabytes: float = pydantic.Field(ge=0)
    download: Download
    gate: GateSettings
    pictures: list[Annotated[str, pydantic.AfterValidator(_a_pattern)]]  # files or patterns of files
    curves: str  # one picture
    report: str

    @pydantic.field_validator("check_command")
    @classmethod
    def _splits(cls, value):
        try:
            shlex.split(value)
        except ValueError as error:
            raise ValueError(f"not a command: {error}") from None
        return value
