"""A headless Chromium, told what to do through its DevTools protocol."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time

from websockets.sync.client import connect

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
_FLAGS = ["--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
_FLAGS += ["--disable-component-update", "--proxy-server=127.0.0.1:9", "--remote-debugging-port=0"]


class Tab:
    """One page of the browser. `errors` collects console errors and exceptions, `requests` every address but data: and file:."""

    def __init__(self, socket, session):
        self._socket, self._session, self._numbers = socket, session, itertools.count(1)
        self.errors, self.requests = [], []
        self._loaded = False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Send a command and return its result; raises RuntimeError if the browser refuses it."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "sessionId": self._session, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=120))
            if message.get("id") == number and message.get("sessionId") == self._session:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    def open(self, url):
        """Load `url` and wait until it is loaded."""
        self._loaded = False
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + 60
        while not self._loaded:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{url} was not loaded in a minute")
            self.call("Page.getLayoutMetrics")
            time.sleep(0.02)

    def run(self, script):
        """The value of a JavaScript expression, awaited if it is a promise; raises RuntimeError if it throws."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"].get("exception", {}).get("description", "exception"))
        return result["result"].get("value")

    def resize(self, width, height, *, touch=False):
        """Show the page in a window of this size, in CSS pixels, or on a phone."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)

    def scheme(self, name):
        """Prefer the "light" or the "dark" colour scheme."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def scripts(self, enabled):
        """Run the page's scripts, or not, from the next load on."""
        self.call("Emulation.setScriptExecutionDisabled", value=not enabled)

    def key(self, name):
        """Press and release a key that writes nothing, as ArrowLeft."""
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35, "Tab": 9}
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=codes[name])

    def drag(self, *points):
        """Press the mouse at the first of the points (x, y), move it over the others and release it."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def swipe(self, *points):
        """Touch the first of the points (x, y), move over the others and let go."""
        for index, (x, y) in enumerate(points):
            self.call("Input.dispatchTouchEvent", type="touchMove" if index else "touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def picture(self, path, *, whole=False):
        """Save what the window shows, or the whole page, as a PNG at `path`."""
        result = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        path.write_bytes(base64.b64decode(result["data"]))

    def _clip(self, whole):
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def _note(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("data:", "file:")):
                self.requests.append(url)


@contextlib.contextmanager
def temporary_folder():
    """Yield the environment of a browser whose temporary files end with it; their path is short, since sockets are among them."""
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as folder:
        yield {**os.environ, "TMPDIR": folder}


@contextlib.contextmanager
def browser_tab(folder):
    """A Tab of a new browser whose profile lies in `folder`, and which cannot reach any network."""
    profile = folder / "profile"
    command = [BROWSER, *_FLAGS, f"--user-data-dir={profile}"]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses root
    with (
        temporary_folder() as environment,
        subprocess.Popen(
            [*command, "about:blank"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process,
    ):
        try:
            with connect(_address(process, profile / "DevToolsActivePort"), max_size=None, proxy=None) as socket:
                yield Tab(socket, _new_session(socket))
        finally:
            process.terminate()


def _address(process, file):
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise RuntimeError("the browser did not start")


def _new_session(socket):
    """The session of a new page; before it there is nothing to be mixed up with."""

    def call(number, method, **params):
        socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(socket.recv(timeout=60))
            if message.get("id") == number:
                return message["result"]

    target = call(-1, "Target.createTarget", url="about:blank")["targetId"]
    return call(-2, "Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
