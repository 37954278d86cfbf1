"""A toy project for the tests of flows: real git, real DVC, six tiny stages of the real pipeline's shape, a Prefect server."""

import atexit
import contextlib
import functools
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil

from benchmarks.server import prefect_server
from tests.helpers.kept import kept
from tests.helpers.prefect_home import prefect_home

SOURCE = Path(__file__).resolve().parents[2]

STAGES = """
import hashlib, json, os, signal, sys, time
from pathlib import Path
from ruamel.yaml import YAML

ALL = YAML(typ="safe").load(Path("params.yaml").read_text())
CONTROL = Path(os.environ.get("TOY_CONTROL", "/nonexistent"))


def write(path, content):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())


def fetch():
    left = CONTROL / "fetch-failures"
    if left.exists() and int(left.read_text()) > 0:
        left.write_text(str(int(left.read_text()) - 1))
        sys.exit((CONTROL / "fetch-message").read_text())
    write("data/raw/numbers.txt", " ".join(map(str, range(ALL["fetch"]["count"]))))


def normalize():
    count = len(Path("data/raw/numbers.txt").read_text().split())
    write("data/normalized/count.txt", str(count - ALL["normalize"]["less"]))


def train():
    section = ALL["train"]
    key = hashlib.sha256(json.dumps(section, sort_keys=True).encode()).hexdigest()[:12]
    scratch = Path(os.environ.get("GAN_SCRATCH", ".scratch")) / f"train-{key}.json"
    step = json.loads(scratch.read_text())["step"] if scratch.exists() else 0
    if step:
        print(f"resumed at step {step}", flush=True)
    stop = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    parent = os.getppid()
    while step < section["steps"]:
        if stop or os.getppid() != parent:
            write(scratch, json.dumps({"step": step}))
            print(f"saved at step {step}", flush=True)
            sys.exit(130)
        if (CONTROL / "fail-train").exists():
            sys.exit("toy: the loss is not finite")
        step += 1
        if section["delay_seconds"]:  # a library that fakes the clock takes no sleep of no time after a jump back
            time.sleep(section["delay_seconds"])
        while (CONTROL / "hold-train").exists() and not stop:
            time.sleep(0.02)
        write(scratch.parent / "live/newest/samples.png", f"samples of step {step}")
        print(f"step {step}/{section['steps']}", flush=True)
    history = "step,g_loss,d_loss\\n" + "".join(f"{i},{4 + 1 / i},{1 / i}\\n" for i in range(1, step + 1))
    write("data/model/history.csv", history)
    write("data/model/weights.txt", f"{section['seed']} {step}")
    scratch.unlink(missing_ok=True)


def evaluate():
    seed, steps = map(int, Path("data/model/weights.txt").read_text().split())
    fid = 10 + ALL["evaluate"]["offset"] + (seed % 7) / 10
    write("data/evaluation/metrics.json", json.dumps({"fid": fid, "fid_std": 0.5, "nested": {"steps": steps}}) + "\\n")


def gallery():
    from PIL import Image
    seed, steps = map(int, Path("data/model/weights.txt").read_text().split())
    Path("data/gallery").mkdir(parents=True)
    for name in ("final", "img-000001"):
        Image.new("L", (64, 64), (seed * 31 + steps) % 256).save(f"data/gallery/{name}.png")


def report():
    from PIL import Image
    Path("data/report").mkdir(parents=True)
    Image.new("RGB", (64, 32), "white").save("data/report/losses.png")
    metrics = Path("data/evaluation/metrics.json").read_text()
    write("data/report/index.html", f"<h1>{metrics}</h1>")


def check():
    section = YAML(typ="safe").load(Path(sys.argv[2]).read_text())["train"]
    if not isinstance(section["steps"], int) or section["steps"] < 1:
        sys.exit(f"{sys.argv[2]}: train.steps = {section['steps']!r}: expected a whole number from 1")
    if section["steps"] == 4:
        print(f"{sys.argv[2]}: note: four steps are none for this machine", file=sys.stderr)


globals()[sys.argv[1]]()
"""

DVC = """
stages:
  fetch:
    cmd: python toy.py fetch
    deps: [toy.py]
    params: [fetch]
    outs: [data/raw]
  normalize:
    cmd: python toy.py normalize
    deps: [toy.py, data/raw]
    params: [normalize]
    outs: [data/normalized]
  train:
    cmd: python toy.py train
    deps: [toy.py, data/normalized]
    params: [train]
    outs: [data/model]
  evaluate:
    cmd: python toy.py evaluate
    deps: [toy.py, data/model]
    params: [evaluate]
    metrics:
      - data/evaluation/metrics.json: {cache: false}
  gallery:
    cmd: python toy.py gallery
    deps: [toy.py, data/model]
    outs: [data/gallery]
  report:
    cmd: python toy.py report
    deps: [toy.py, data/evaluation/metrics.json]
    outs: [data/report]
artifacts:
  generator:
    path: data/model
    type: model
"""

PARAMS = """\
fetch:
  count: 20  # numbers (DVC leaves parameters named "size" or "nfiles" out of its run cache key: wrong results)
normalize:
  less: 0
train:
  steps: 3  # updates
  seed: 0
  delay_seconds: 0.0
evaluate:
  offset: 0.0
flow:
  check_command: python toy.py check {file}
  timeout_seconds: 300.0
  grace_seconds: 8.0
  overlap: wait
  git_remote: origin
  claim_seconds: 8
  free_gigabytes: 0.1
  download:
    stage: fetch
    attempts: 3
    first_delay_seconds: 0.1
    passing_failure: timed out|HTTP 5\\d\\d
  gate:
    artifact: generator
    metrics_file: data/evaluation/metrics.json
    metric: fid
    noise: fid_std
    seed_spread: 0.0
    ruler: null
    ruler_spread: 0.0
    direction: lower
    margin: 2.0
  pictures: [data/gallery/final.png, data/gallery/img-*.png]
  curves: data/report/losses.png
  report: data/report/index.html
"""


class Project:
    """The toy project in `root`, and the environment that its commands run in."""

    def __init__(self, root, api_url=None):
        self.root = Path(root)
        self.control = self.root.parent / f"{self.root.name}-control"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(SOURCE),
            "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
            "DVC_NO_ANALYTICS": "1",
            "TOY_CONTROL": str(self.control),
            "SHELL": "/bin/sh",
        }
        self.environment.pop("GAN_SCRATCH", None)
        if api_url:
            self.environment["PREFECT_API_URL"] = api_url

    def create(self):
        """Write the files and commit them."""
        self.root.mkdir()
        self.control.mkdir()
        self.run("git", "init", "--quiet", "--initial-branch=main")
        self.run("git", "config", "user.name", "someone")
        self.run("git", "config", "user.email", "someone@example.org")
        self.run("dvc", "init", "--quiet")
        for name, content in {
            "toy.py": STAGES,
            "dvc.yaml": DVC,
            "params.yaml": PARAMS,
            ".gitignore": ".scratch/\n__pycache__/\ndata/*/\n!data/evaluation/\n",
            ".dvcignore": ".scratch\n__pycache__\n",
        }.items():
            (self.root / name).write_text(content)
        self.commit("Start")
        return self

    def run(self, *command, check=True, **options):
        """Run a command in the project to its end; its output on failure."""
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, **options)
        if check and done.returncode != 0:
            raise RuntimeError(f"{command}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def git(self, *arguments):
        """Standard output of a git command."""
        return self.run("git", *arguments).stdout.strip()

    def commit(self, message):
        """Commit everything."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "-m", message)

    def start(self, *arguments, program=("commands", "flow"), log="flow.log", group=False):
        """Start `gan flow`, or another program, and return the process; its output goes to a file beside the project.

        group: in a process group of its own.
        """
        with open(self.control / log, "w") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *program, *arguments],
                cwd=self.root,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0 if group else None,
            )

    def log(self, name="flow.log"):
        """What a started command has printed so far."""
        return (self.control / name).read_text()

    def pipeline(self, *arguments, check=True):
        """Run the pipeline to its end."""
        return self.gan("flow", *arguments, check=check)

    def gan(self, *arguments, check=True):
        """Run the program `gan` to its end."""
        return self.run(sys.executable, "-m", "commands", *arguments, check=check)

    def set(self, old, new):
        """Change the text of params.yaml."""
        text = (self.root / "params.yaml").read_text()
        if text.count(old) != 1:
            raise ValueError(f"{old!r} stands {text.count(old)} times in params.yaml")
        (self.root / "params.yaml").write_text(text.replace(old, new))

    def processes(self):
        """Living processes that work in the project or belong to it."""
        return [line for _, line in self._processes()]

    def training_listens(self):
        """Whether a training is under way that takes signals."""
        for process, line in self._processes():
            if line.endswith("toy.py train"):
                with contextlib.suppress(OSError):
                    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())[1]
                    if int(caught, 16) & 1 << (signal.SIGTERM - 1):
                        return True
        return False

    def _processes(self):
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                inside = Path(process.cwd()).is_relative_to(self.root)
                if inside and process.status() != psutil.STATUS_ZOMBIE:
                    found.append((process, " ".join(process.cmdline())))
        return found


@functools.cache
def _scratch():
    folder = tempfile.mkdtemp(prefix="toy-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


_running = contextlib.ExitStack()  # this process's Prefect server, if there is one


@functools.cache
def server_url():
    """The address of this test process's Prefect server, started on first use and whenever it was stopped."""
    url, _ = _running.enter_context(server_in(_scratch() / "server"))
    atexit.register(_running.close)  # before the scratch goes
    return url


def stop_server():
    """End this test process's Prefect server, if there is one: it works even where nobody asks. Its data stay."""
    _running.close()
    server_url.cache_clear()


@functools.cache
def _client_home():
    return prefect_home(_scratch() / "prefect-home")


@functools.cache
def templates():
    """The folder of the two toy projects that `make_project` copies: `created`, and `ran`, whose stages have run."""
    content = "\0".join([Path(__file__).read_text(), version("dvc"), sys.version])
    return kept(f"toy-{hashlib.sha256(content.encode()).hexdigest()[:16]}", _make_templates)


def _make_templates(folder):
    made = folder / "made"
    made.mkdir()
    created, ran = Project(made / "created").create(), Project(made / "ran")
    shutil.copytree(created.root, ran.root, symlinks=True)
    ran.control.mkdir()
    ran.run("dvc", "repro", "--quiet")
    ran.commit("Run")
    return made


def make_project(folder, *, ran=False, api_url=None):
    """A fresh toy project in `folder`; with `ran`, its stages have run once and the result is committed."""
    project = Project(Path(folder) / "a prøject", api_url)
    shutil.copytree(templates() / ("ran" if ran else "created"), project.root, symlinks=True)
    project.control.mkdir()
    project.environment["PREFECT_HOME"] = str(_client_home())
    return project


class Runs:
    """What a Prefect server knows of runs, over its REST interface."""

    def __init__(self, url):
        self._url = url

    def _get(self, path):
        return ask_server("GET", self._url + path).json()

    def _post(self, path, body):
        return ask_server("POST", self._url + path, json=body).json()

    def flow_run(self, run_id):
        """The flow run as a dict."""
        return self._get(f"/flow_runs/{run_id}")

    def state(self, run_id):
        """(type, name) of a flow run's state."""
        state = self.flow_run(run_id)["state"]
        return state["type"], state["name"]

    def tasks(self, run_id):
        """Task name -> state name, in the order of starting; waits until the server has taken in the last task's end.

        A task run reaches the server by way of events, later than what it logged: all that logged must be there.
        """
        where = {"flow_runs": {"id": {"any_": [run_id]}}}

        def finished():
            logged = {item["task_run_id"] for item in self._log_records(run_id) if item["task_run_id"]}
            found = self._post("/task_runs/filter", where)
            complete = logged <= {item["id"] for item in found} and all(item["end_time"] for item in found)
            return found if complete else None

        found = wait_for(finished, 90, "the end of all task runs")
        found.sort(key=lambda item: item["start_time"])
        return {item["name"]: item["state_name"] for item in found}

    def logs(self, run_id):
        """The lines of a flow run's log, its tasks' included."""
        return [item["message"] for item in self._log_records(run_id)]

    def _log_records(self, run_id):
        where = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        return self._post("/logs/filter", where)

    def artifacts(self, run_id):
        """Artifact key -> artifact."""
        where = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        return {item["key"]: item for item in self._post("/artifacts/filter", where)}

    def of_deployment(self, name, *types):
        """The flow runs of the deployment `pipeline/name`, oldest first; only those in a state of these types, if there are any.

        Say them where it is asked again and again: of the runs that are only planned the server has many to tell.
        """
        where = {"deployments": {"name": {"any_": [name]}}, "sort": "EXPECTED_START_TIME_ASC"}
        if types:
            where["flow_runs"] = {"state": {"type": {"any_": types}}}
        return self._post("/flow_runs/filter", where)

    def delete_deployments(self):
        """Delete all deployments, and with them their scheduled runs."""
        for deployment in self._post("/deployments/filter", {}):
            ask_server("DELETE", f"{self._url}/deployments/{deployment['id']}")

    def cancel(self, run_id):
        """Ask for a run's cancellation, as the UI's button does."""
        state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        self._post(f"/flow_runs/{run_id}/set_state", state)


def ask_server(method, url, **request):
    """A Prefect server's answer; asked again, as by Prefect's own client, while it says 503: its database is locked."""

    def asked():
        answer = httpx.request(method, url, timeout=60, **request)
        return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer.raise_for_status()

    return wait_for(asked, 60, f"{method} {url}")


def run_id(output):
    """The flow run's id from what the command printed."""
    return re.search(r"runs/flow-run/([0-9a-f-]{36})", output)[1]


def wait_for(condition, seconds=60, what="condition", *, every_seconds=None):
    """Poll until `condition()` is true and return its value; fail after `seconds`.

    By default ever more rarely, ten times a second at first and twice in the end: a question to the server takes 20 ms of a core.
    """
    start = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - start
        if waited > seconds:
            raise TimeoutError(f"{what} did not come true in {seconds} s")
        time.sleep(every_seconds or min(max(0.1, waited / 10), 0.5))
    return value


def server_in(home, port=None):
    """`prefect_server` whose scheduler looks every two seconds, a minute ahead. A `home` that is there keeps its data."""
    home = Path(home)
    if not home.exists():
        prefect_home(home)
    scheduler = {"LOOP_SECONDS": "2", "MIN_SCHEDULED_TIME": "0:01:00"}
    return prefect_server(home, port, **{f"PREFECT_SERVER_SERVICES_SCHEDULER_{key}": value for key, value in scheduler.items()})
