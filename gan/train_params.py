"""The parameters of training, as the section `train` of params.yaml declares them. Importing this imports no TensorFlow."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gan.params import Section

Width = Annotated[int, Field(ge=1, le=8192)]


class AdamParams(Section):
    """One network's Adam (arXiv 1412.6980); the learning rate is the schedule's highest. update_clip: `gan.adam`; 0 for none."""

    learning_rate: float = Field(gt=0, le=1)
    beta_1: float = Field(ge=0, lt=1)
    beta_2: float = Field(ge=0, lt=1)
    epsilon: float = Field(gt=0, le=1)
    update_clip: float = Field(ge=0, le=1000)


class TrainParams(Section):
    """Everything that the result of training depends on, besides the images, the labels and the code.

    network, conditional, the units and compute_precision: `gan.models`. clusters: of the training images, in the place of labels
    (`gan.clusters`); 0 for none. loss, r1_gamma, r2_gamma: `gan.losses`. warm_up_steps, constant_rate_share, final_rate_share:
    `gan.schedules`. penalty_every_steps: the penalties are applied only so often, that many times as strongly (Karras et al.
    2020, arXiv 1912.04958, section 3.1). ema_decay: of the average of the generator's weights that is kept in their stead (Yazici
    et al. 2019, arXiv 1806.04498); 0 for none. compute_precision "bfloat16": of the layers alone, on float32 weights
    (Micikevicius et al. 2018, arXiv 1710.03740).

    update_order, of a step: "split", as in the lecture, a discriminator update on real images, another on fakes, then the
    generator's; "alternating" (arXiv 1406.2661, algorithm 1), one discriminator update on both, then the generator's through the
    new discriminator; "simultaneous" (Mescheder et al. 2017, arXiv 1705.10461), both from the same weights and the same fakes.

    compiler: "xla" fuses a block of steps into one program; "graph" leaves the operations to TensorFlow's own kernels, which on a
    CPU are the ones that have fast convolutions (measured: 0.4 steps/s against 33, see docs/recipes.md). In a "graph" each of the
    `threads` computes a part of every batch, so their number changes the bytes.
    """

    seed: int = Field(ge=0, le=10**6)
    steps: int = Field(ge=1, le=10**7)
    batch_size: int = Field(ge=1, le=4096)
    network: Literal["dense", "conv"]
    conditional: bool
    clusters: int = Field(ge=0, le=1000)
    latent_dim: int = Field(ge=1, le=4096)
    generator_units: list[Width] = Field(min_length=1, max_length=8)
    discriminator_units: list[Width] = Field(min_length=1, max_length=8)
    leaky_slope: float = Field(ge=0, lt=1)
    loss: Literal["non_saturating", "hinge", "relativistic"]
    update_order: Literal["split", "alternating", "simultaneous"]
    r1_gamma: float = Field(ge=0, le=1000)
    r2_gamma: float = Field(ge=0, le=1000)
    penalty_every_steps: int = Field(ge=1, le=1000)
    generator_adam: AdamParams
    discriminator_adam: AdamParams
    warm_up_steps: int = Field(ge=0, le=10**6)
    constant_rate_share: float = Field(ge=0, le=1)
    final_rate_share: float = Field(ge=0, le=1)
    ema_decay: float = Field(ge=0, lt=1)
    compute_precision: Literal["float32", "bfloat16"]
    compiler: Literal["xla", "graph"]
    log_every_steps: int = Field(ge=1, le=10**6)
    trajectory_points: int = Field(ge=1, le=100)
    threads: int = Field(ge=1, le=256)

    @property
    def threads_an_operation(self):
        """How many of the threads one operation uses: all in a program of XLA's; in a graph each has its own part of a batch."""
        return self.threads if self.compiler == "xla" else 1

    @model_validator(mode="after")
    def _combinations_make_sense(self):
        counts = len(self.generator_units), len(self.discriminator_units)
        if self.network == "conv" and counts != (2, 3):
            raise ValueError(
                "network = 'conv' needs generator_units of 2 numbers (channels at 7 x 7 and at 14 x 14) and discriminator_units "
                f"of 3 (channels at 14 x 14 and at 7 x 7, width of the dense layer), got {counts[0]} and {counts[1]}"
            )
        if self.clusters == 1 or (self.clusters and self.conditional):
            raise ValueError(
                f"clusters = {self.clusters} with conditional = {self.conditional}: clusters stand in for labels that networks "
                "are not given; choose clusters = 0, or at least 2 with conditional = false"
            )
        if self.loss == "relativistic" and self.update_order == "split":
            raise ValueError(
                "loss = 'relativistic' compares real images with fakes, which update_order = 'split' never shows together; "
                "choose 'alternating' or 'simultaneous'"
            )
        if self.constant_rate_share == 1 and self.final_rate_share != 1:
            raise ValueError(
                f"final_rate_share = {self.final_rate_share} is never reached with constant_rate_share = 1; set it to 1, or "
                "constant_rate_share below 1"
            )
        if self.warm_up_steps > self.constant_rate_share * self.steps:
            raise ValueError(
                f"warm_up_steps = {self.warm_up_steps} reaches into the decay of the rate, which begins after "
                f"{self.constant_rate_share} of {self.steps} steps; shorten it or raise constant_rate_share"
            )
        return self


class RuntimeParams(Section):
    """What changes how training runs but not one bit of its result; no stage declares it to DVC."""

    checkpoint_every_seconds: float = Field(gt=0, le=3600)
