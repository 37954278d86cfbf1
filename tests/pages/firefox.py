"""A headless Firefox, told what to do through WebDriver BiDi."""

import contextlib
import itertools
import json
import shutil
import subprocess
import time

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.pages.browser import temporary_folder

FIREFOX = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)


class FirefoxTab:
    """One page of the browser: what of `tests.pages.browser.Tab` loads a page, runs scripts and notes what went wrong."""

    def __init__(self, socket):
        self._socket, self._numbers = socket, itertools.count(1)
        self.errors, self.requests = [], []
        self.call("session.new", capabilities={})
        self._context = self.call("browsingContext.getTree")["contexts"][0]["context"]
        self.call("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])

    def call(self, method, **params):
        """Send a command and return its result; raises RuntimeError if the browser refuses it."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=120))
            if message.get("id") == number:
                if message["type"] == "error":
                    raise RuntimeError(f"{method}: {message['message']}")
                return message["result"]
            self._note(message)

    def open(self, url):
        """Load `url` and wait until it is loaded."""
        self.call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def run(self, script):
        """The value of a JavaScript expression, through JSON, awaited if it is a promise; raises RuntimeError if it throws."""
        script = f"Promise.resolve({script}).then((value) => JSON.stringify(value))"
        result = self.call("script.evaluate", expression=script, target={"context": self._context}, awaitPromise=True)
        if result["type"] == "exception":
            raise RuntimeError(result["exceptionDetails"]["text"])
        return json.loads(result["result"].get("value", "null"))  # nothing at all is no JSON

    def key(self, name):
        """Press and release ArrowLeft or ArrowRight."""
        value = {"ArrowLeft": "\ue012", "ArrowRight": "\ue014"}[name]
        actions = [{"type": kind, "value": value} for kind in ("keyDown", "keyUp")]
        self.call("input.performActions", context=self._context, actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def _note(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "log.entryAdded" and params["level"] in ("error", "warn"):
            self.errors.append(params["text"])
        elif method == "network.beforeRequestSent" and not params["request"]["url"].startswith(("data:", "file:")):
            self.requests.append(params["request"]["url"])


@contextlib.contextmanager
def firefox_tab(folder):
    """A FirefoxTab of a new browser whose profile lies in `folder`."""
    profile = folder / "profile"
    profile.mkdir()
    command = [FIREFOX, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port=0", "about:blank"]
    with (
        temporary_folder() as environment,
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
    ):
        try:
            with _connected(process, profile / "WebDriverBiDiServer.json") as socket:
                yield FirefoxTab(socket)
        finally:
            process.terminate()


def _connected(process, file):
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, WebSocketException):  # it is still starting
            where = json.loads(file.read_text())
            return connect(f"ws://{where['ws_host']}:{where['ws_port']}/session", max_size=None, proxy=None)
        time.sleep(0.1)
    raise RuntimeError("the browser did not start")
