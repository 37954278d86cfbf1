from pathlib import Path

import pytest

from gan.errors import ParamsError
from gan.params import parse_section, read_file
from gan.training.params import TrainParams

ROOT = Path(__file__).resolve().parents[2]


def lecture():
    return read_file(ROOT / "sets/lecture.yaml")["train"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "conv"}, "train: network = 'conv' needs generator_units of 2 numbers .* got 2 and 1"),
        (
            {"network": "conv", "generator_units": [8], "discriminator_units": [8, 8, 8]},
            "train: network = 'conv' needs generator_units of 2 numbers .* got 1 and 3",
        ),
        ({"loss": "relativistic"}, "train: loss = 'relativistic' .* choose 'alternating' or 'simultaneous'"),
        ({"final_rate_share": 0.1}, "train: final_rate_share = 0.1 is never reached with constant_rate_share = 1"),
        (
            {"constant_rate_share": 0.1, "warm_up_steps": 501},
            "train: warm_up_steps = 501 reaches into the decay of the rate, which begins after 0.1 of 5001 steps",
        ),
        ({"ema_decay": 1.0}, "train.ema_decay = 1.0: input should be less than 1"),
        ({"loss": "no_such_loss"}, "train.loss = 'no_such_loss': input should be 'non_saturating', 'hinge' or 'relativistic'"),
        ({"compiler": "llvm"}, "train.compiler = 'llvm': input should be 'xla' or 'graph'"),
        ({"compute_precision": "float16"}, "train.compute_precision = 'float16': input should be 'float32' or 'bfloat16'"),
        (
            {"compute_precision": "bfloat16", "compiler": "graph"},
            "train: compute_precision = 'bfloat16' with instructions = 'avx2': .* choose instructions = 'avx512_bf16'",
        ),
        (
            {"instructions": "native"},
            "train: processor = 'any', but only dense networks with .* round alike everywhere; set train.processor to '",
        ),
        (
            {"instructions": "avx"},
            "train.instructions = 'avx': input should be 'avx2', 'avx512', 'avx512_bf16', 'amx_bf16' or 'native'",
        ),
        ({"conditional": "yes"}, "train.conditional = 'yes': input should be a valid boolean"),
        ({"clusters": 1}, "train: clusters = 1 with conditional = False: .* choose clusters = 0, or at least 2"),
        ({"clusters": 5, "conditional": True}, "train: clusters = 5 with conditional = True: .* choose clusters = 0"),
        ({"r1_gamma": -1.0}, "train.r1_gamma = -1.0: input should be greater than or equal to 0"),
        ({"penalty_every_steps": 0}, "train.penalty_every_steps = 0: input should be greater than or equal to 1"),
        ({"r1_gama": 1.0}, "train.r1_gama = 1.0 is unknown; did you mean r1_gamma?"),
    ],
)
def test_what_makes_no_sense_is_one_clear_line(changes, message):
    with pytest.raises(ParamsError, match=message) as caught:
        parse_section({**lecture(), **changes}, "train", TrainParams)
    assert "\n" not in str(caught.value)


def test_convolutions_under_xla_need_a_gpu():
    conv = {"network": "conv", "generator_units": [4, 4], "discriminator_units": [4, 4, 4], "processor": "a kind"}
    with pytest.raises(ParamsError, match="train: compiler = 'xla' with network = 'conv' and .* set compiler to 'graph'"):
        parse_section({**lecture(), **conv}, "train", TrainParams)
    for changes in ({**conv, "device": "a GPU"}, {**conv, "compiler": "graph"}, {}):
        parse_section({**lecture(), **changes}, "train", TrainParams)


@pytest.mark.parametrize(("compiler", "threads"), [("xla", 3), ("graph", 1)])
def test_an_operation_takes_all_threads_in_a_program_of_xlas_alone(compiler, threads, monkeypatch):
    monkeypatch.setattr("gan.training.params.start_tensorflow", lambda threads, **settings: (threads, settings))
    params = parse_section({**lecture(), "compiler": compiler, "threads": 3, "processor": "a kind"}, "train", TrainParams)
    settings = {"threads_an_operation": threads, "instructions": params.instructions, "device": params.device}
    assert params.start_tensorflow() == (3, settings)


def test_every_parameter_must_stand_in_the_file():
    for key in TrainParams.model_fields:
        section = lecture()
        del section[key]
        with pytest.raises(ParamsError, match=f"train.{key} is missing"):
            parse_section(section, "train", TrainParams)
