"""The `flow:` section of params.yaml: what a run does beside the stages. Read by flows only; no stage depends on it."""

from typing import Literal

import pydantic

from gan.params import Section


class Download(Section):
    """The one stage that is retried, and for which failures."""

    stage: str = pydantic.Field(min_length=1)
    attempts: int = pydantic.Field(ge=1, le=10)
    first_delay_seconds: float = pydantic.Field(ge=0)  # doubles from attempt to attempt
    passing_failure: str = pydantic.Field(min_length=1)  # a regular expression on the stage's output

    @pydantic.field_validator("passing_failure")
    @classmethod
    def _compiles(cls, value):
        import re

        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value


class Gate(Section):
    """When a version becomes the accepted one: its metric may be worse than the last accepted by `margin` noises at most.

    The noise of a metric is that of measuring it and that of training: another seed, or any change at all, gives another model.
    """

    artifact: str = pydantic.Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    metrics_file: str
    metric: str
    noise: str  # the key of one standard deviation of `metric` for one model
    seed_spread: float = pydantic.Field(ge=0, le=1)  # one standard deviation over training seeds, as a share of `metric`
    direction: Literal["lower", "higher"]  # which is better
    margin: float = pydantic.Field(ge=0)  # in standard deviations of the difference


class Curves(Section):
    """The curves of a CSV file with a header that are drawn into the run's artifacts."""

    file: str
    x: str
    columns: list[str] = pydantic.Field(min_length=1, max_length=6)


class FlowParams(Section):
    """See params.yaml for what each value means."""

    check_command: str = pydantic.Field(pattern=r"\{file\}")
    timeout_seconds: float = pydantic.Field(gt=0)
    grace_seconds: float = pydantic.Field(gt=0, le=25)  # Prefect itself kills a cancelled run after 30 s
    overlap: Literal["wait", "skip"]
    git_remote: str = pydantic.Field(min_length=1)
    download: Download
    gate: Gate
    pictures: list[str]
    curves: Curves
    report: str
