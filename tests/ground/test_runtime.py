"""What the shell and the processor must not change: each setting is tried in a process of its own."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from gan import runtime
from gan.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TRAIN = """
from gan.kernels import pin_numpy
from gan.runtime import start_tensorflow
pin_numpy()
import hashlib
import numpy as np
from gan.params import read_section
from gan.training.params import TrainParams
params = read_section("params.yaml", "train", TrainParams)
start_tensorflow(params.threads, instructions=params.instructions, device=params.device)
from gan.training.engine import Engine
pixels = np.random.default_rng(0).integers(0, 256, (400, 28, 28, 1), np.uint8)
engine = Engine(params, pixels)
state, history = engine.advance(engine.initial_state(), 0, 5)
arrays = [*engine.generator_weights(state), *[w.numpy() for w in state["d"]], engine.samples(state), history]
print(hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest())
"""
FOREIGN = {
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
    "OPENBLAS_CORETYPE": "Sandybridge",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4",
}


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow(seconds=26)
@pytest.mark.timeout(900)
def test_neither_a_variable_of_the_shell_nor_a_kept_program_changes_a_trained_byte(tmp_path):
    trained = run(TRAIN, GAN_PROGRAMS=str(tmp_path))
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/*")}
    assert run(TRAIN, **FOREIGN, GAN_PROGRAMS="") == trained
    assert len(kept) > 1
    assert run(TRAIN, GAN_PROGRAMS=str(tmp_path)) == trained
    assert kept == {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/*")}


def test_programs_are_kept_apart_by_what_tensorflow_does_not_look_at(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "")
    folders = []
    for flags, threads, kind in (("a", 1, "A"), ("a", 1, "A"), ("b", 1, "A"), ("a", 2, "A"), ("a", 1, "B")):
        monkeypatch.setenv("XLA_FLAGS", flags)
        monkeypatch.setattr(runtime, "processor_kind", lambda kind=kind: kind)
        runtime._keep_programs(tmp_path, threads)
        folders.append(os.environ["TF_XLA_FLAGS"])
    assert folders[0] == folders[1]
    assert len(set(folders)) == 4 == len(list(tmp_path.iterdir()))


def test_instructions_that_the_processor_lacks_are_refused_with_the_way_out(monkeypatch):
    monkeypatch.setattr(runtime, "_is_x86", lambda: True)
    monkeypatch.setattr(runtime, "_processor_flags", lambda: {"avx2", "fma"})
    runtime.require_instructions("avx2")
    with pytest.raises(
        UserError, match=r"'avx512_bf16': this processor has no avx512_bf16; set train.instructions to avx2 or native"
    ):
        runtime.require_instructions("avx512_bf16")
    runtime.require_instructions("native")


@pytest.mark.parametrize(
    ("cpuinfo", "kind"),
    [
        (
            "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nmodel\t: 1\n",
            "AMD 25-17",
        ),
        ("vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n", "Intel 6-143"),
        ("vendor_id\t: HygonGenuine\ncpu family\t: 24\nmodel\t\t: 0\n", "HygonGenuine 24-0"),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", f"{platform.machine()} 0x41-0xd0c"),
        ("", platform.machine()),
        (None, platform.machine()),
    ],
)
def test_the_kind_of_processor_is_maker_family_and_model(monkeypatch, cpuinfo, kind):
    def read_text(path, encoding):
        if cpuinfo is None:
            raise FileNotFoundError(path)
        return cpuinfo

    monkeypatch.setattr(runtime.Path, "read_text", read_text)
    assert runtime.processor_kind() == kind
    runtime.require_processor("any")
    runtime.require_processor(kind)
    with pytest.raises(UserError, match="processor = 'MOS 6502': this machine's is"):
        runtime.require_processor("MOS 6502")


def test_another_kind_of_processor_has_native_instructions_alone(monkeypatch):
    monkeypatch.setattr(runtime, "_is_x86", lambda: False)
    monkeypatch.setattr(runtime.platform, "machine", lambda: "arm64")
    with pytest.raises(UserError, match="'avx2': this processor is arm64; set train.instructions to native"):
        runtime.require_instructions("avx2")
    runtime.require_instructions("native")


def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    code = """
from gan.errors import UserError
from gan.runtime import start_tensorflow
try:
    start_tensorflow(1, device="NVIDIA Nothing")
except UserError as error:
    print(error)
"""
    assert run(code).startswith("train.device = 'NVIDIA Nothing': this machine has cpu")


@pytest.mark.parametrize(
    ("value", "folder"), [(None, ".scratch"), ("", ".scratch"), ("mine/of it", "mine/of it"), ("/srv/scratch", "/srv/scratch")]
)
def test_the_scratch_folder_is_seen_from_the_checkout(value, folder, monkeypatch, tmp_path):
    if value is None:
        monkeypatch.delenv("GAN_SCRATCH", raising=False)
    else:
        monkeypatch.setenv("GAN_SCRATCH", value)
    assert runtime.scratch_folder() == Path(folder)
    assert runtime.scratch_folder(tmp_path) == tmp_path / folder
