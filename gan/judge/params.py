"""The sections `judge` and `evaluate` of params.yaml. Importing this imports no TensorFlow."""

from pydantic import Field, field_validator

from gan.params import Section

MIN_SAMPLES = 100  # that metrics are taken of


class ClassifierParams(Section):
    """How a digit classifier is trained."""

    seed: int = Field(ge=0, le=10**6)
    epochs: int = Field(ge=1, le=100)
    batch_size: int = Field(ge=2, le=4096)
    learning_rate: float = Field(gt=0, le=1)


class JudgeParams(Section):
    """Everything that the judge and the real-data floor depend on, besides the data and the code."""

    classifier: ClassifierParams
    sample_count: int = Field(ge=MIN_SAMPLES, le=10**5)
    neighbours: int = Field(ge=1, le=50)
    shuffle_seed: int = Field(ge=0, le=10**6)
    threads: int = Field(ge=1, le=256)


class EvaluateParams(Section):
    """What the evaluation of a generator depends on, besides the judge, the data and the code."""

    seed: int = Field(ge=0, le=10**6)
    classification_accuracy_score: bool
    large_sample_count: int = Field(ge=0, le=10**5)

    @field_validator("large_sample_count")
    @classmethod
    def _is_a_sample_or_none(cls, count):
        if 0 < count < MIN_SAMPLES:
            raise ValueError(f"must be 0 for none, or at least {MIN_SAMPLES}")
        return count

    threads: int = Field(ge=1, le=256)
