"""A real HTTP server on this machine whose every answer, good or bad, is scripted."""

import contextlib
import gzip
import hashlib
import http.server
import threading

from gan.datasets.params import ExpectedFile

CONTENTS = {
    "train-images-idx3-ubyte": bytes(range(256)) * 40,
    "train-labels-idx1-ubyte": bytes(range(7)) * 30,
    "t10k-images-idx3-ubyte": bytes(range(250)) * 20,
    "t10k-labels-idx1-ubyte": bytes(range(5)) * 10,
}


def expected_files():
    """What `gan.datasets.archives` must find: small stand-ins under the names of the real files."""
    return {
        name: ExpectedFile(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in CONTENTS.items()
    }


class Server:
    """`routes` maps a path to one scripted answer for ever, or to a list that is worked off; `requests` is what was asked."""

    def __init__(self, http_server):
        self.url = f"http://127.0.0.1:{http_server.server_port}"
        self.routes = {}
        self.requests = []
        self.closing = threading.Event()
        self.asked = threading.Event()

    def paths(self):
        return [path for path, _ in self.requests]


@contextlib.contextmanager
def serve():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append((self.path, dict(self.headers)))
            server.asked.set()
            answer = server.routes.get(self.path, status(404))
            if isinstance(answer, list):
                answer = answer.pop(0)
            self.closing = server.closing
            self.close_connection = True
            with contextlib.suppress(ConnectionError):
                answer(self)

        do_CONNECT = do_GET

        def log_message(self, *_):
            pass

    class QuietServer(http.server.ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with QuietServer(("127.0.0.1", 0), Handler) as http_server:
        server = Server(http_server)
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            http_server.shutdown()
            thread.join()


def content(body, content_type="application/octet-stream", **headers):
    return _respond(200, body, {"Content-Type": content_type, **headers})


def status(code):
    return _respond(code, b"no", {})


def cut(body, claimed_bytes):
    """Promise `claimed_bytes`, send only `body`, close."""
    return _respond(200, body, {}, claimed_bytes)


def hang(handler):
    """Take the request and never answer."""
    handler.closing.wait(30)


def drip(handler):
    """Send a byte now and then, for ever."""
    handler.send_response(200)
    handler.end_headers()
    while not handler.closing.wait(0.02):
        handler.wfile.write(b"x")


def endless(handler):
    """Send zeros for ever."""
    handler.send_response(200)
    handler.end_headers()
    while not handler.closing.is_set():
        handler.wfile.write(bytes(1 << 16))


def mirror(server, folder="/mnist", **replaced):
    """Serve the good files below `folder`, except for the answers in `replaced` (train_labels=...)."""
    for name, body in CONTENTS.items():
        server.routes[f"{folder}/{name}.gz"] = content(gzip.compress(body))
    for short, answer in replaced.items():
        (name,) = (name for name in CONTENTS if name.startswith(short.replace("_", "-")))
        server.routes[f"{folder}/{name}.gz"] = answer
    return f"{server.url}{folder}"


def _respond(code, body, headers, claimed_bytes=None):
    def answer(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", len(body) if claimed_bytes is None else claimed_bytes)
        handler.end_headers()
        handler.wfile.write(body)

    return answer
