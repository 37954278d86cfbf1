"""The sections `train` and `runtime` of params.yaml. Importing this imports no TensorFlow."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gan.params import Section
from gan.runtime import ANY, CPU, INSTRUCTIONS, NATIVE, processor_kind, start_tensorflow

Width = Annotated[int, Field(ge=1, le=8192)]


class AdamParams(Section):
    """One network's Adam (Kingma & Ba 2015, arXiv 1412.6980)."""

    learning_rate: float = Field(gt=0, le=1)  # the highest of the schedule
    beta_1: float = Field(ge=0, lt=1)
    beta_2: float = Field(ge=0, lt=1)
    epsilon: float = Field(gt=0, le=1)
    update_clip: float = Field(ge=0, le=1000)  # in learning rates (`gan.training.adam`); 0 for none


class TrainParams(Section):
    """Everything that the result of training depends on, besides the images, the labels and the code."""

    seed: int = Field(ge=0, le=10**8)  # of weights, latents and batches; a date such as 20260131 is one as well
    steps: int = Field(ge=1, le=10**7)  # updates of the generator
    batch_size: int = Field(ge=1, le=4096)  # images an update
    # of real images: "with_replacement" draws each by itself, as the lecture does; "without_replacement" goes through an order of
    # all of them, anew each epoch (`gan.training.batches`)
    sampling: Literal["with_replacement", "without_replacement"]
    network: Literal["dense", "conv"]  # `gan.training.networks`, as are the units
    conditional: bool  # whether both networks are told the digit
    clusters: int = Field(ge=0, le=1000)  # of the training images, in the place of labels (`gan.training.clusters`); 0 for none
    latent_dim: int = Field(ge=1, le=4096)
    generator_units: list[Width] = Field(min_length=1, max_length=8)
    discriminator_units: list[Width] = Field(min_length=1, max_length=8)
    leaky_slope: float = Field(ge=0, lt=1)
    loss: Literal["non_saturating", "hinge", "relativistic"]  # `gan.training.losses`
    # "split": a discriminator update on real images, another on fakes, then the generator's, as in the lecture.
    # "alternating": one discriminator update on both, then the generator's through the new discriminator (arXiv 1406.2661,
    # algorithm 1). "simultaneous": both from the same weights and the same fakes (Mescheder et al. 2017, arXiv 1705.10461).
    update_order: Literal["split", "alternating", "simultaneous"]
    r1_gamma: float = Field(ge=0, le=1000)  # of the penalty on real images (`gan.training.losses`); 0 for none
    r2_gamma: float = Field(ge=0, le=1000)  # of the penalty on fakes; 0 for none
    # the penalties are applied only so often, that many times as strongly (Karras et al. 2020, arXiv 1912.04958, section 3.1)
    penalty_every_steps: int = Field(ge=1, le=1000)
    generator_adam: AdamParams
    discriminator_adam: AdamParams
    warm_up_steps: int = Field(ge=0, le=10**6)  # `gan.training.schedules`, as are the two shares
    constant_rate_share: float = Field(ge=0, le=1)
    final_rate_share: float = Field(ge=0, le=1)
    # of the average of the generator's weights that is kept as the result (Yazici et al. 2019, arXiv 1806.04498); 0 for none
    ema_decay: float = Field(ge=0, lt=1)
    ema_gamma: float = Field(ge=0, le=1000)  # while its decay is less: `gan.training.schedules.average_decay`
    # standard deviation of the latents that the result is drawn from, where training's is 1: less gives truer digits, more gives
    # more varied ones (as the truncation of Brock et al. 2019, arXiv 1809.11096, section 3.1, does, and undoes)
    temperature: float = Field(gt=0, le=10)
    # of the layers alone, on float32 weights (Micikevicius et al. 2018, arXiv 1710.03740)
    compute_precision: Literal["float32", "bfloat16"]
    # "xla" fuses a block of steps into one program. "graph" leaves the operations to TensorFlow's own kernels, which on a CPU are
    # the ones that have fast convolutions: 33 steps/s against 0.4 (docs/recipes.md).
    compiler: Literal["xla", "graph"]
    log_every_steps: int = Field(ge=1, le=10**6)  # a console line and a snapshot each
    trajectory_points: int = Field(ge=1, le=100)  # how many generators are kept over training
    # fixed, so that no result depends on how many cores a machine has; in a "graph" each computes a part of every batch, so that
    # their number changes the bytes
    threads: int = Field(ge=1, le=256)
    # the newest that kernels may use, so that a processor with more gives the same bytes
    instructions: Literal[*INSTRUCTIONS, NATIVE]
    device: str = Field(min_length=1)  # "cpu", or a GPU by the name that TensorFlow gives it
    # the kind (`gan.runtime.processor_kind`) where the result depends on it, so that no cache gives one kind's to another
    processor: str = Field(min_length=1)

    def start_tensorflow(self):
        """Import TensorFlow as these parameters ask for (`gan.runtime.start_tensorflow`), and return it.

        In a program of XLA's all threads share an operation; in a graph each has operations on a part of a batch (`Engine`).
        """
        return start_tensorflow(
            self.threads,
            threads_an_operation=self.threads if self.compiler == "xla" else 1,
            instructions=self.instructions,
            device=self.device,
        )

    @property
    def rounds_alike_everywhere(self):
        """Whether every x86-64 processor with AVX2 gives the same bytes; TensorFlow's own kernels heed its caches as well."""
        return (self.network, self.compiler, self.compute_precision, self.instructions, self.device) == (
            "dense",
            "xla",
            "float32",
            "avx2",
            CPU,
        )

    @model_validator(mode="after")
    def _combinations_make_sense(self):
        counts = len(self.generator_units), len(self.discriminator_units)
        if self.network == "conv" and counts != (2, 3):
            raise ValueError(
                "network = 'conv' needs generator_units of 2 numbers (channels at 7 x 7 and at 14 x 14) and discriminator_units "
                f"of 3 (channels at 14 x 14 and at 7 x 7, width of the dense layer), got {counts[0]} and {counts[1]}"
            )
        if (self.network, self.compiler, self.device) == ("conv", "xla", CPU):
            raise ValueError(
                "compiler = 'xla' with network = 'conv' and device = 'cpu': XLA's convolutions take over 40 times as long there "
                "as TensorFlow's own; set compiler to 'graph'"
            )
        if (self.compute_precision, self.compiler, self.instructions, self.device) == ("bfloat16", "graph", "avx2", CPU):
            raise ValueError(
                "compute_precision = 'bfloat16' with instructions = 'avx2': without AVX-512 there are no products in bfloat16; "
                "choose instructions = 'avx512_bf16', or compute_precision = 'float32'"
            )
        if self.processor == ANY and self.device == CPU and not self.rounds_alike_everywhere:
            raise ValueError(
                f"processor = {ANY!r}, but only dense networks with compiler = 'xla', compute_precision = 'float32' and "
                f"instructions = 'avx2' round alike everywhere; set train.processor to {processor_kind()!r}, this machine's"
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
