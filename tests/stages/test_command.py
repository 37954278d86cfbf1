"""How a stage's command ends when there is too little memory."""

import os
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
