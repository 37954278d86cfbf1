"""How a stage's command ends when there is too little memory, or a signal before it listens to any."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.helpers.toy_project import wait_for
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


@pytest.mark.parametrize("by_dvc", [True, False])
def test_a_stage_of_dvc_whose_dvc_has_ended_before_it_listens_ends_too(by_dvc, tmp_path):
    stage = tmp_path / "stage.py"
    stage.write_text(
        "import os, time\n"
        "from stages.command import run_as_command\n"
        "def main():\n    open('ran', 'w').close()\n"
        "while os.getppid() == int(os.environ['STARTER']): time.sleep(0.01)\n"
        "run_as_command(main)\n"
    )
    # a session of its own, as of a terminal or a service, in which the one that starts the stage does not live on
    starter = "import os, subprocess, sys; os.environ['STARTER'] = str(os.getpid()); print(subprocess.Popen(sys.argv[1:]).pid)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({"DVC_STAGE": "train"} if by_dvc else {})}
    done = subprocess.run(
        [sys.executable, "-c", starter, sys.executable, stage],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        start_new_session=True,
    )
    wait_for(lambda: has_ended(int(done.stdout)), 30, "the stage's end")
    assert (tmp_path / "ran").exists() != by_dvc


def test_a_stage_ends_with_its_dvc_where_the_shell_between_them_lives_on(tmp_path):
    stage = tmp_path / "stage.py"
    stage.write_text(
        "import os, time\n"
        "from stages.command import run_as_command\n"
        "def main():\n    open('ran', 'w').write(str(os.getpid()))\n    time.sleep(600)\n"
        "run_as_command(main)\n"
    )
    shell = ["/bin/sh", "-c", f"'{sys.executable}' '{stage}'; exit $?"]  # not the last command: any shell stays
    starter = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_STAGE": "train"}
    dvc = subprocess.Popen([sys.executable, "-c", starter, *shell], cwd=tmp_path, env=environment, start_new_session=True)
    try:
        number = int(wait_for(lambda: (tmp_path / "ran").exists() and (tmp_path / "ran").read_text(), 60, "the stage"))
        assert not has_ended(number)
    finally:
        dvc.kill()
        dvc.wait()
    wait_for(lambda: has_ended(number), 30, "the stage's end")


def has_ended(process_id):
    try:
        return psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
