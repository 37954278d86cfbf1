"""The Makefile: its choice of a Python, its refusals, and what it does after a run that was stopped."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.nameless import nameless

ROOT = Path(__file__).resolve().parents[2]
MAKE = shutil.which("make")
AN_HOUR_AGO = time.time() - 3600


@pytest.fixture
def make(tmp_path):
    """A function that runs make in a copy of what the Makefile needs, with nothing on the PATH but the Pythons of `python`."""
    for name in ("Makefile", "requirements.lock", "requirements-installer.lock", "pyproject.toml", "requirements.in"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "path").mkdir()

    def make(*arguments, **variables):
        environment = {"PATH": str(tmp_path / "path"), **variables}
        return subprocess.run([MAKE, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return make


@pytest.fixture
def python(tmp_path):
    """A function that puts a Python on the PATH: this one, but it says that it is of another version."""

    def python(name, major, minor, *, folder=tmp_path / "path"):
        folder.mkdir(parents=True, exist_ok=True)
        disguise = f"import sys; sys.version_info = ({major}, {minor}, 1, 'final', 0); exec(sys.argv[1])"
        (folder / name).write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec "{sys.executable}" -c "{disguise}" "$2"\n')
        (folder / name).chmod(0o755)

    return python


def chosen(done):
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()[0].split(" environment.py ")[0].strip('"')


@pytest.mark.parametrize(
    ("pythons", "expected"),
    [
        ([("python3.11", 3, 11), ("python3.12", 3, 12), ("python3", 3, 12)], "python3.11"),
        ([("python3.13", 3, 13), ("python3", 3, 14)], "python3.13"),
        ([("python3", 3, 10), ("python", 3, 12)], "python"),
        ([("python3", 3, 13), ("python", 2, 7)], "python3"),
        ([("python3.11", 3, 9), ("python3.12", 3, 12)], "python3.12"),  # what a name says is not believed
    ],
)
def test_the_first_python_that_fits_is_chosen(pythons, expected, make, python):
    for stub in pythons:
        python(*stub)
    assert chosen(make("-n", "env")) == expected


def test_a_python_that_is_named_goes_first(make, python, tmp_path):
    python("python3.11", 3, 11)
    python("mine", 3, 13, folder=tmp_path / "elsewhere")
    mine = str(tmp_path / "elsewhere" / "mine")
    assert chosen(make("-n", "env", f"PYTHON={mine}")) == mine
    assert chosen(make("-n", "env", PYTHON=mine)) == mine


def test_a_python_without_the_module_for_environments_does_not_fit(make, python, tmp_path):
    (tmp_path / "path" / "python3.11").write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "raise ImportError"\n')
    (tmp_path / "path" / "python3.11").chmod(0o755)
    python("python3.12", 3, 12)
    assert chosen(make("-n", "env")) == "python3.12"


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (2, 7)])
def test_a_named_python_that_does_not_fit_is_refused_in_one_line(version, make, python):
    python("python3.11", 3, 11)
    python("mine", *version)
    for target in ("env", "lock", "test", "repro"):
        done = make(target, "PYTHON=mine")
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "*** PYTHON=mine is not Python 3.11, 3.12 or 3.13 with its module venv" in line
        assert done.stdout == ""


@pytest.mark.parametrize("pythons", [[], [("python3", 3, 10), ("python", 2, 7)]])
def test_no_python_is_one_line_that_says_what_to_do(pythons, make, python):
    for stub in pythons:
        python(*stub)
    done = make("env")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "*** found no Python 3.11, 3.12 or 3.13" in line
    assert "install one, or run make with PYTHON=<path of one>" in line


def finish(folder, python):
    """Make `folder` look like one with a finished environment of the Python stub `python`."""
    python("python", 3, 11, folder=folder / ".venv/bin")
    for stamp in (".installed", ".installed-project", ".installed-test"):
        (folder / ".venv" / stamp).write_text(f"{folder}\n")
    for path in (*folder.iterdir(), *(folder / ".venv").glob(".installed*")):
        os.utime(path, (AN_HOUR_AGO, AN_HOUR_AGO))


def test_a_finished_environment_stays_until_a_lock_or_the_python_changes(make, python, tmp_path):
    finish(tmp_path, python)
    python("python3.11", 3, 11)
    python("python3.12", 3, 12)
    nothing = make("-n", "env")
    assert nothing.returncode == 0
    assert "environment.py" not in nothing.stdout
    assert make("-n", "env", "PYTHON=python3.11").stdout == nothing.stdout
    assert chosen(make("-n", "env", "PYTHON=python3.12")) == "python3.12"

    (tmp_path / "pyproject.toml").touch()
    assert make("-n", "env").stdout.splitlines() == [
        ".venv/bin/python environment.py .venv .",
        "touch .venv/.installed-project",
    ]
    (tmp_path / "requirements.lock").touch()
    assert chosen(make("-n", "env")) == "python3.11"


def test_a_python_is_looked_for_outside_the_environment(make, python, tmp_path):
    finish(tmp_path, python)
    python("python3", 3, 11, folder=tmp_path / ".venv/bin")
    python("python3", 3, 12)
    (tmp_path / "environment.py").touch()
    with open(tmp_path / "path/python3", "a") as stub:
        stub.write('echo the other one; echo "$PATH"\n')
    for path in (f"{tmp_path}/path", f"{tmp_path}/.venv/bin:{tmp_path}/path"):
        done = make(".venv/.installed", "PYTHON=python3", PATH=path)
        assert done.stdout.splitlines() == ["the other one", f"{tmp_path}/path"], done.stderr


@pytest.mark.slow(seconds=20)
def test_a_checkout_that_was_copied_or_renamed_gets_an_environment_of_its_own(tmp_path):
    first = tmp_path / "a first" / "one"
    first.mkdir(parents=True)
    for name in ("Makefile", "environment.py"):
        shutil.copy(ROOT / name, first)
    for name in ("requirements.lock", "requirements-installer.lock"):
        (first / name).touch()

    def made(folder):
        """What make says in `folder`, and where its environment's program finds its library."""
        command = [MAKE, ".venv/.installed", f"PYTHON={sys.executable}"]
        outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of `make test`
        outside["LC_ALL"] = "C"  # the language of what make says
        done = subprocess.run(command, cwd=folder, env={**outside, "INSTALLER": "pip"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        where = subprocess.run([folder / ".venv/bin/pip", "--version"], capture_output=True, text=True, check=True).stdout
        return done.stdout.splitlines()[0], where.split(" from ")[1].rpartition("/lib/")[0]

    anew = f"making .venv with Python {sys.version_info.major}.{sys.version_info.minor}"
    assert made(first) == (anew, f"{first}/.venv")
    assert made(first) == ("make: '.venv/.installed' is up to date.", f"{first}/.venv")
    copy = tmp_path / "copy"
    shutil.copytree(first, copy, symlinks=True)
    assert made(copy) == (anew, f"{copy}/.venv")
    renamed = copy.rename(tmp_path / "renamed")
    assert made(renamed) == (anew, f"{renamed}/.venv")
    assert made(first)[0] == "make: '.venv/.installed' is up to date."


def test_what_makes_the_lock_files_is_installed_by_its_hash(make, python):
    python("python3.11", 3, 11)
    said = make("-n", "lock").stdout
    assert said.startswith('"python3.11" environment.py .venv-lock requirements-installer.lock\n') and "pip install" not in said


def test_the_server_reports_to_nobody(make, python, tmp_path):
    finish(tmp_path, python)
    (tmp_path / ".venv/bin/gan").write_text('#!/bin/sh\nexport -p\necho "$@"\n')
    (tmp_path / ".venv/bin/gan").chmod(0o755)
    done = make("server", "ARGS=--port 4300")
    assert done.stdout.splitlines()[-1] == "server start --port 4300"
    for name, value in {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "DVC_NO_ANALYTICS": "1"}.items():
        assert f"export {name}='{value}'" in done.stdout


# stands for DVC: what has begun is saved for a second after Ctrl-C
_DVC = f"""#!{sys.executable}
import pathlib, signal, sys, time

def save(*_):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(1)
    with open("log", "a") as log:
        print("saved", file=log)
    sys.exit(3)

signal.signal(signal.SIGINT, save)
pathlib.Path("begun").touch()
time.sleep(20)
"""


@pytest.fixture
def log(make, tmp_path, python):
    """A file with what `gan` and DVC, both stubs, have done in a finished environment."""
    finish(tmp_path, python)
    for name, text in {"gan": '#!/bin/sh\necho "$@" >>log\n[ "$1" = check ] || echo a notice >&2\n', "dvc": _DVC}.items():
        (tmp_path / ".venv/bin" / name).write_text(text)
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    (tmp_path / "log").touch()
    return tmp_path / "log"


@pytest.mark.parametrize("option", ["-n", "-t", "-q"])
def test_what_only_looks_runs_nothing(option, make, log):
    for target in ("repro", "restore", "flow", "schedule", "server", "worker", "versions", "check"):
        make(option, target)
    assert log.read_text() == "" and not (log.parent / "begun").exists()


def test_a_user_without_a_name_has_a_number_for_dvc(log):
    (log.parent / ".venv/bin/dvc").write_text("#!/bin/sh\necho dvc of $USER >>log\n")
    environment = {"PATH": os.defpath}
    subprocess.run([*nameless(), MAKE, "repro"], cwd=log.parent, env=environment, check=True, capture_output=True)
    subprocess.run([MAKE, "repro"], cwd=log.parent, env={**environment, "USER": "somebody"}, check=True, capture_output=True)
    assert log.read_text().splitlines()[1::2] == ["dvc of 4321", "dvc of somebody"]


@pytest.mark.parametrize("shell", ["dash", "bash", "sh"])
def test_ctrl_c_lets_dvc_save_and_brings_the_results_back(shell, log):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    command = [MAKE, "repro", f"SHELL={shutil.which(shell)}"]
    with subprocess.Popen(command, cwd=log.parent, stderr=subprocess.PIPE, text=True, process_group=0) as made:
        deadline = time.monotonic() + 30
        while not (log.parent / "begun").exists():
            assert time.monotonic() < deadline and made.poll() is None
            time.sleep(0.05)
        os.killpg(made.pid, signal.SIGINT)  # as a terminal does
        _, said = made.communicate(timeout=30)
        with pytest.raises(ProcessLookupError):
            os.killpg(made.pid, 0)  # nothing runs on
    assert log.read_text().split() == ["check", "saved", "restore"]
    assert made.returncode != 0 and "a notice" in said
