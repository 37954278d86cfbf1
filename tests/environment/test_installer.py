"""The installer of the environment: what it tells uv of pip's configuration, and that pip steps in where uv does not do."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import environment

ROOT = Path(__file__).resolve().parents[2]


def settings_of(options, variables=()):
    arguments, settings = environment.uv_settings(options, dict(variables))
    assert arguments[:2] == ["--index-strategy", "unsafe-best-match"]
    settings.pop("UV_SYSTEM_CERTS", None)  # the machine's
    return arguments[2:], settings


def test_options_of_pip_replace_each_other_as_in_pip():
    listing = "\n".join(
        [
            "global.index-url='http://global/simple'",
            "global.extra-index-url='http://one/simple\\nhttp://two/simple'",
            "global.timeout='5'",
            "install.index-url='http://install/simple'",
            "download.index-url='http://download/simple'",
            ":env:.extra-index-url='http://three/simple'",
            ":env:.default-timeout='180'",
            "a warning of somebody's",
        ]
    )
    assert environment.pip_options(listing) == {
        "index-url": "http://install/simple",
        "extra-index-url": "http://three/simple",
        "timeout": "180",
    }


@pytest.mark.parametrize(
    ("options", "arguments", "variables"),
    [
        ({}, [], {}),
        ({"index-url": "http://a/simple"}, [], {"UV_DEFAULT_INDEX": "http://a/simple"}),
        ({"extra-index-url": "http://a/s\nfile:///b c"}, [], {"UV_INDEX": "http://a/s file:///b c"}),
        ({"no-index": "true", "index-url": "http://a/simple", "extra-index-url": "http://b"}, ["--no-index"], {}),
        ({"no-index": "0", "index-url": "http://a/simple"}, [], {"UV_DEFAULT_INDEX": "http://a/simple"}),
        ({"find-links": "http://a/files /nowhere file:///nowhere"}, ["--find-links", "http://a/files"], {}),
        ({"only-binary": "a,b", "no-binary": "c"}, ["--only-binary", "a", "--only-binary", "b", "--no-binary", "c"], {}),
        ({"no-cache-dir": "1"}, [], {"UV_NO_CACHE": "1"}),
        ({"timeout": "60", "retries": "9"}, [], {"UV_HTTP_TIMEOUT": "60", "UV_HTTP_RETRIES": "9"}),
        ({"trusted-host": "a\nb:81"}, [], {"UV_INSECURE_HOST": "a b:81"}),
        ({"client-cert": "/me.pem"}, [], {"SSL_CLIENT_CERT": "/me.pem"}),
        ({"cert": "/authorities.pem"}, [], {"SSL_CERT_FILE": "/authorities.pem"}),
        ({"cert": os.sep}, [], {"SSL_CERT_DIR": os.sep}),
        ({"constraint": "/constraints.txt", "quiet": "1"}, [], {}),
    ],
)
def test_settings_of_uv_say_what_those_of_pip_say(options, arguments, variables):
    assert settings_of(options) == (arguments, variables)


def test_folders_of_wheels_that_exist_are_handed_on(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "wheels").mkdir()
    arguments, _ = settings_of({"find-links": f"~/wheels file://{tmp_path}/wheels ~/none"})
    assert arguments == ["--find-links", f"{tmp_path}/wheels", "--find-links", f"file://{tmp_path}/wheels"]


@pytest.mark.parametrize("proxy", ["proxy:3128", "http://proxy:3128"])
def test_a_proxy_of_pip_goes_before_those_of_the_shell(proxy):
    _, variables = settings_of({"proxy": proxy}, {"https_proxy": "http://other:1", "no_proxy": "localhost"})
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    assert variables == {**dict.fromkeys(names, "http://proxy:3128"), "no_proxy": "localhost"}


def test_certificates_are_those_that_pip_takes():
    shell = {"CURL_CA_BUNDLE": "/curl.pem"}
    assert settings_of({}, shell)[1] == {**shell, "SSL_CERT_FILE": "/curl.pem"}
    shell |= {"REQUESTS_CA_BUNDLE": "/requests.pem", "SSL_CERT_FILE": "/ssl.pem"}
    assert settings_of({}, shell)[1] == {**shell, "SSL_CERT_FILE": "/requests.pem"}
    assert settings_of({"cert": "/pip.pem"}, shell)[1] == {**shell, "SSL_CERT_FILE": "/pip.pem"}


def test_variables_of_uv_that_name_other_places_are_left_out():
    shell = {"UV_CACHE_DIR": "/cache", "UV_INDEX_URL": "http://other", "UV_FIND_LINKS": "http://other", "PATH": "/bin"}
    assert settings_of({}, shell)[1] == {"UV_CACHE_DIR": "/cache", "PATH": "/bin"}


def test_system_certificates_are_used_where_there_are_any(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert "UV_SYSTEM_CERTS" not in environment.uv_settings({}, {})[1]
    (tmp_path / "authority.pem").touch()
    assert environment.uv_settings({}, {})[1]["UV_SYSTEM_CERTS"] == "1"


def test_the_real_configuration_of_pip_is_read(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = http://a/it's\nextra-index-url =\n  http://b\n  http://c\n[install]\nno_index = yes\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_TRUSTED_HOST", "d e")
    options = environment.pip_options(environment.pip_configuration(Path(sys.prefix)))
    expected = {"index-url": "http://a/it's", "extra-index-url": "\nhttp://b\nhttp://c", "no-index": "yes", "trusted-host": "d e"}
    assert {name: options[name] for name in expected} == expected


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A folder with the wheel of a package `toy`, and lock files: right.lock, and wrong.lock with another hash."""
    folder = tmp_path_factory.mktemp("index")
    wheel = folder / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy.py", "colour = 'red'\n")
        archive.writestr("toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        archive.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("toy-1.0.dist-info/RECORD", "toy.py,,\ntoy-1.0.dist-info/RECORD,,\n")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (folder / "right.lock").write_text(f"toy==1.0 --hash=sha256:{digest}\n")
    (folder / "wrong.lock").write_text(f"toy==1.0 --hash=sha256:{'0' * 64}\n")
    return folder


@pytest.fixture
def run(index, tmp_path):
    """Run the installer for an environment in `tmp_path`, whose pip knows the folder `index` alone."""

    def run(lock, **variables):
        settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull, **variables}
        command = [sys.executable, ROOT / "environment.py", tmp_path / "made", index / lock]
        return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)

    return run


def colour(folder):
    command = [folder / "bin/python", "-c", "import toy; print(toy.colour)"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.mark.slow(seconds=15)
def test_pip_installs_where_uv_cannot_be_had_and_checks_the_hash(run, tmp_path):
    done = run("wrong.lock")
    assert "uv cannot be had, so pip installs alone" in done.stdout
    assert "hash" in done.stderr.lower()
    assert done.stderr.splitlines()[-1].startswith(f"{tmp_path}/made is not ready: ")
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert colour(tmp_path / "made") == ""
    done = run("right.lock", INSTALLER="pip")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert colour(tmp_path / "made") == "red\n"


@pytest.fixture
def uv():
    path = Path(sys.prefix) / "bin" / "uv"
    if not path.exists():
        pytest.skip("this environment was made by pip alone")
    return path


@pytest.fixture(scope="module")
def virtual_environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("environment") / "made"
    environment.make_environment(folder)
    return folder


@pytest.fixture
def made(virtual_environment, index, tmp_path, monkeypatch):
    """A virtual environment without `toy`, and this process's variables such that pip knows the folder `index` alone."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    for path in virtual_environment.glob("lib/*/site-packages/toy*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return virtual_environment


@pytest.mark.slow(seconds=10)
def test_uv_installs_and_a_stopped_installation_is_done_anew(uv, made, index, capfd):
    with pytest.raises(subprocess.CalledProcessError), environment.unfinished(made, index / "wrong.lock"):
        environment.install(made, index / "wrong.lock", uv, again=False)
    assert "uv fails, so pip installs alone" in capfd.readouterr().out
    assert colour(made) == ""

    environment.install(made, index / "right.lock", uv, again=False)
    assert colour(made) == "red\n"

    (package,) = made.glob("lib/*/site-packages/toy.py")
    package.unlink()
    package.write_text("")  # what is there is a link to uv's cache
    with environment.unfinished(made, index / "wrong.lock") as again:
        environment.install(made, index / "right.lock", uv, again=again)
    assert colour(made) == "red\n"
    with environment.unfinished(made, index / "wrong.lock") as again:
        assert not again
    assert capfd.readouterr().out == ""


@pytest.mark.slow(seconds=1)
@pytest.mark.parametrize("variable", ["UV_CACHE_DIR", "XDG_CACHE_HOME", "HOME"])
def test_uv_does_without_a_cache_that_it_cannot_write(variable, uv, made, index, monkeypatch, capfd):
    for name in ("UV_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/proc/nowhere")  # where not even root makes a folder
    environment.install(made, index / "right.lock", uv, again=False)
    assert colour(made) == "red\n"
    assert capfd.readouterr().out == ""


@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("program", [b"#!/bin/sh\necho no such index >&2\nexit 2\n", b"\x7fELF another machine's"])
def test_pip_installs_where_uv_fails(program, made, index, tmp_path, capfd):
    broken = tmp_path / "uv"
    broken.write_bytes(program)
    broken.chmod(0o755)
    environment.install(made, index / "right.lock", broken, again=False)
    assert colour(made) == "red\n"
    (line,) = capfd.readouterr().out.splitlines()
    assert "pip installs alone" in line


@pytest.mark.slow(seconds=10)
def test_an_environment_that_may_not_be_written_is_one_line(made):
    as_others = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []  # root may write everywhere
    command = [*as_others, sys.executable, ROOT / "environment.py", "made", "right.lock"]
    made.chmod(0o555)
    try:
        done = subprocess.run(
            command, cwd=made.parent, env={**os.environ, "INSTALLER": "pip"}, check=False, capture_output=True, text=True
        )
    finally:
        made.chmod(0o755)
    (line,) = done.stderr.splitlines()
    assert line.startswith("made is not ready: [Errno 13] Permission denied: 'made/.installing-right.lock'; if another user")
    assert done.returncode == 1
