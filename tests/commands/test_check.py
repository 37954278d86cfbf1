import os
import subprocess
import sys
from pathlib import Path

import pytest

from gan.params import parse_section, read_file
from gan.runtime import processor_kind
from gan.training.params import TrainParams

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def params(tmp_path):
    return write(tmp_path)


def write(folder, **values):
    """A params.yaml that is right but for what a machine may lack: other values of keys that stand there once in a line."""
    text = (ROOT / "params.yaml").read_text()
    for key, value in values.items():
        lines = [line for line in text.splitlines() if line.startswith(f"  {key}: ")]
        assert len(lines) == 1, lines
        text = text.replace(lines[0], f"  {key}: {value}")
    (folder / "params.yaml").write_text(text)
    return folder / "params.yaml"


def checked(path, search=None):
    """(exit code, standard output, lines of standard error) of `gan check`. search: folders of programs, before all others."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": os.pathsep.join(filter(None, [search, os.environ["PATH"]]))}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "commands", "check"],
        cwd=path.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    lines = done.stderr.splitlines()
    assert not any(line.endswith(" tensorflow") for line in lines)
    return done.returncode, done.stdout, [line for line in lines if not line.startswith("import time:")]


def with_gpus(folder, *names):
    """A folder with a program that stands for the driver's."""
    program = folder / "bin/nvidia-smi"
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{name}'\n" for name in names))
    program.chmod(0o755)
    return str(program.parent)


def test_what_is_right_and_what_this_machine_has_is_no_word(params):
    assert checked(params) == (0, "", [])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"processor": "MOS 6502"}, f"train.processor = 'MOS 6502': this machine's is {processor_kind()!r}, which rounds in its"),
        (
            {"device": "NVIDIA X1", "processor": "any"},
            "train.device = 'NVIDIA X1': nvidia-smi names NVIDIA A2 here; work on another",
        ),
    ],
)
def test_what_this_machine_lacks_for_training_is_a_note(tmp_path, values, said):
    code, output, [line] = checked(write(tmp_path, **values), with_gpus(tmp_path, "NVIDIA A2"))
    assert (code, output) == (0, "") and line.startswith(f"params.yaml: note: {said}")
    assert line.endswith("here `train` refuses to run, unless DVC's cache has its result")


def test_a_gpu_that_is_here_is_no_word(tmp_path):
    assert checked(write(tmp_path, device="NVIDIA X1"), with_gpus(tmp_path, "NVIDIA A2", "NVIDIA X1")) == (0, "", [])


def test_instructions_that_this_machine_lacks_are_named_and_no_gpu_is(tmp_path, monkeypatch):
    from commands.check import unmet
    from gan import runtime

    train = read_file(write(tmp_path, instructions="amx_bf16", device="NVIDIA X1", processor="any"))["train"]
    monkeypatch.setattr(runtime, "_is_x86", lambda: True)
    monkeypatch.setattr(runtime, "_processor_flags", lambda: {"avx2", "fma"})
    monkeypatch.setenv("PATH", str(tmp_path))
    instructions, device = unmet(parse_section(train, "train", TrainParams))
    assert instructions.startswith("train.instructions = 'amx_bf16': this processor has no amx_bf16, amx_tile, avx512_bf16; set")
    assert device.startswith(
        "train.device = 'NVIDIA X1': nvidia-smi names no GPU here; work on another machine, or set train.device"
    )


def test_problems_are_all_that_is_said_of_a_file_that_has_some(tmp_path):
    code, output, lines = checked(write(tmp_path, processor="MOS 6502", latent_dim=0))
    assert (code, output) == (1, "") and len(lines) == 1 and lines[0].startswith("params.yaml: train.latent_dim = 0: ")
