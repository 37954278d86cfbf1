"""The parameters of training, as the section `train` of params.yaml declares them. Importing this imports no TensorFlow."""

from typing import Annotated

from pydantic import Field

from gan.params import Section

Width = Annotated[int, Field(ge=1, le=8192)]


class AdamParams(Section):
    """One network's Adam (arXiv 1412.6980)."""

    learning_rate: float = Field(gt=0, le=1)
    beta_1: float = Field(ge=0, lt=1)
    beta_2: float = Field(ge=0, lt=1)
    epsilon: float = Field(gt=0, le=1)


class TrainParams(Section):
    """Everything that the result of training depends on, besides the images and the code."""

    seed: int = Field(ge=0, le=10**6)
    steps: int = Field(ge=1, le=10**7)
    batch_size: int = Field(ge=1, le=4096)
    latent_dim: int = Field(ge=1, le=4096)
    generator_units: list[Width] = Field(min_length=1, max_length=8)
    discriminator_units: list[Width] = Field(min_length=1, max_length=8)
    leaky_slope: float = Field(ge=0, lt=1)
    generator_adam: AdamParams
    discriminator_adam: AdamParams
    log_every_steps: int = Field(ge=1, le=10**6)
    trajectory_points: int = Field(ge=1, le=100)
    threads: int = Field(ge=1, le=256)


class RuntimeParams(Section):
    """What changes how training runs but not one bit of its result; no stage declares it to DVC."""

    checkpoint_every_seconds: float = Field(gt=0, le=3600)
