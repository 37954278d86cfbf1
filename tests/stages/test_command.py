"""How a stage's command ends when there is too little memory, or a signal before it listens to any."""

import os
import signal
import subprocess
import sys

import pytest

from tests.soak.frame import ROOT


@pytest.mark.parametrize(
    ("work", "line"),
    [
        ("bytearray(1 << 60)", "not enough memory (MemoryError)"),
        ("raise ImportError('libx.so: failed to map segment from shared object')", "not enough memory (ImportError)"),
        ("raise ResourceExhaustedError('OOM when allocating tensor')", "not enough memory (ResourceExhaustedError)"),
        ("raise OSError(12, 'Cannot allocate memory')", "[Errno 12] Cannot allocate memory"),
        ("raise ImportError('no such name')", None),
    ],
)
def test_too_little_memory_is_one_line(work, line, tmp_path):
    (tmp_path / "stage.py").write_text(
        "from stages.command import run_as_command\n"
        "class ResourceExhaustedError(Exception): pass\n"  # TensorFlow's has this name
        f"def main():\n    {work}\n"
        "run_as_command(main)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, tmp_path / "stage.py"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    if line is None:
        assert "Traceback" in done.stderr
    else:
        (told,) = done.stderr.splitlines()
        assert told.startswith(f"python -m stages.stage: {line}")


def test_a_signal_while_a_stage_still_imports_is_an_end_without_a_word(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import builtins, os, signal\n"
        "of_python = builtins.__import__\n"
        "def stopped(name, *others, **named):\n"
        "    if name == 'stages.command':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return of_python(name, *others, **named)\n"
        "builtins.__import__ = stopped\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-m", "stages.normalize"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
