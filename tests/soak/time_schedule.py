"""The campaign `time`: a schedule over a hundred runs on a real server while things break; every change becomes one version."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter

import httpx
import psutil
from hypothesis import strategies as st

from benchmarks.server import prefect_environment
from tests.helpers.toy_project import Runs, make_project
from tests.soak.case import Fault, Kind
from tests.soak.kills_project import die_with_me, let_signals_through

COUNT = 1
NAME = "soak"
START_SECONDS = 120
CONVERGE_SECONDS = 300  # from a change, with whatever breaks, to the version that has it
ENDED = ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]
FAULTS = (
    "nothing",
    "server restarted",
    "server killed",
    "run killed",
    "DVC killed",
    "schedule killed",
    "schedule stopped",
    "training fails",
    "git remote away",
    "DVC remote away",
    "run cancelled",
)
MEMORY_GROWTH_BYTES = 30_000_000  # of the serving process from its tenth run on


class Server:
    """A Prefect server that can die and come back under its address, with its database."""

    def __init__(self, home):
        home.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/api"
        self._home = home
        self._process = None

    def start(self):
        with open(self._home / "server.log", "a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "prefect", "server", "start", "--port", str(self._port)],
                env={**prefect_environment(self._home), "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_me,
            )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > end:
                raise TimeoutError("the server does not start")
            time.sleep(0.2)

    def stop(self, number=signal.SIGTERM):
        """End it with a signal to its group."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def _answers(self):
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                return True
        except OSError:
            return False


class Soak:
    """One long schedule: the server, the toy project with its remotes, the serving process, and what is expected of them.

    server: one that answers already and is left as it is, where no fault is about it; by default one of its own.
    """

    def __init__(self, folder, case, server=None):
        self.folder = folder
        self.case = case
        self.dice = random.Random(case["seed"])
        self.server = server or Server(folder / "server")
        self.runs = Runs(self.server.url)
        self.project = make_project(folder, ran=True, api_url=self.server.url)
        self.served = None
        self.serves = 0
        self.expected = []  # seeds, in the order of their versions
        self.memory = []  # (runs that had ended, resident bytes of the serving process, its number)
        self.files = []  # (runs that had ended, files outside of git, DVC's cache and the server)
        self.injected = Counter()
        self.before = 0  # ended runs that a server which lost nothing has counted

    def prepare(self):
        for name in ("tmp", "site", "client"):
            (self.folder / name).mkdir()
        self.project.environment |= {
            "TMPDIR": str(self.folder / "tmp"),
            "DVC_SITE_CACHE_DIR": str(self.folder / "site"),
            "PREFECT_HOME": str(self.folder / "client"),
        }
        self.project.run("git", "init", "--quiet", "--bare", str(self.folder / "origin.git"))
        self.project.git("remote", "add", "origin", str(self.folder / "origin.git"))
        (self.folder / "remote").mkdir()
        self.project.run("dvc", "remote", "add", "--default", "store", str(self.folder / "remote"))
        self.project.commit("Add remotes")
        self.server.start()
        self.serve()

    def serve(self):
        self.serves += 1
        self.served = self.project.start(
            "--interval-seconds",
            str(self.case["interval_seconds"]),
            "--name",
            NAME,
            program=("commands", "schedule"),
            log=f"schedule-{self.serves}.log",
        )

    def stop_serving(self):
        """End the schedule in order, and the run under way with it."""
        self.served.terminate()
        start = time.monotonic()
        try:
            self.served.wait(120)
        except subprocess.TimeoutExpired:
            raise Fault("hang", f"the schedule lives 120 s after SIGTERM\n{self._log()}") from None
        if "Traceback" in self._log():
            raise Fault("traceback", f"SIGTERM, {time.monotonic() - start:.0f} s\n{self._log()}")

    def close(self):
        if self.served is not None:
            self.served.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.served.wait(120)
            self.served.kill()
            self.served.wait()
        self.server.stop(signal.SIGKILL)
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def ended(self):
        """How many runs have ended, by the server."""
        where = {"deployments": {"name": {"any_": [NAME]}}, "flow_runs": {"state": {"type": {"any_": ENDED}}}}
        try:
            return httpx.post(f"{self.server.url}/flow_runs/count", json=where, timeout=30).raise_for_status().json()
        except httpx.HTTPError:
            return 0

    def wait_for_runs(self, count, limit_seconds=CONVERGE_SECONDS):
        """Wait until `count` more runs have ended."""
        goal = self.ended() + count
        self._wait(lambda: self.ended() >= goal, limit_seconds, f"{count} more runs")

    def measure(self):
        with contextlib.suppress(psutil.Error):
            self.memory.append((self.ended(), psutil.Process(self.served.pid).memory_info().rss, self.serves))
        kept = [self.folder / name for name in ("tmp", "site", "client")]
        kept += [self.project.root / name for name in (".scratch", ".dvc/tmp", ".git/worktrees", ".git/refs/pipeline")]
        self.files.append((self.ended(), sum(1 for folder in kept for path in folder.rglob("*") if path.is_file())))

    def change(self):
        """Commit another seed: the next runs must record exactly one version of it."""
        seed = len(self.expected) + 1
        old = f"seed: {len(self.expected)}"
        self.project.set(old, f"seed: {seed}")
        if "delay_seconds: 0.0\n" in (self.project.root / "params.yaml").read_text():
            self.project.set("delay_seconds: 0.0", "delay_seconds: 0.5")  # time enough to be hit
        self.project.commit(f"Seed {seed}")
        self.expected.append(seed)

    def break_something(self, fault):
        """Inject one fault now, and mend it where somebody would have to."""
        self.injected[fault] += 1
        time.sleep(self.dice.uniform(0, 8))
        project = self.project
        if fault == "server restarted":
            self.server.stop()
            self.server.start()
        elif fault == "server killed":
            self.server.stop(signal.SIGKILL)
            time.sleep(self.dice.uniform(0, 5))
            self.server.start()
        elif fault in ("run killed", "DVC killed"):
            word = "--multiprocessing-fork" if fault == "run killed" else "flows/dvc/process.py"
            self._wait(lambda: self._kill(word), 60, f"a process to kill: {word}")
        elif fault == "schedule killed":
            self.served.kill()
            self.served.wait()
            self.serve()
        elif fault == "schedule stopped":
            self.stop_serving()
            self.serve()
        elif fault == "training fails":
            (project.control / "fail-train").touch()
            self.wait_for_runs(2)
            (project.control / "fail-train").unlink()
        elif fault in ("git remote away", "DVC remote away"):
            remote = self.folder / ("origin.git" if fault.startswith("git") else "remote")
            remote.rename(self.folder / "away")
            self.wait_for_runs(2)
            if remote.exists():
                shutil.rmtree(remote)  # DVC makes its remote's folder anew
            (self.folder / "away").rename(remote)
        elif fault == "run cancelled":
            for run in self.runs.of_deployment(NAME, "RUNNING"):
                self.runs.cancel(run["id"])

    def converge(self, fault):
        """Wait for the version of the last change."""
        self._wait(
            lambda: len(self._seeds()) >= len(self.expected) and not self._unpushed(),
            CONVERGE_SECONDS,
            f"the version of seed {self.expected[-1]} after: {fault}",
        )

    def wrong(self):
        """What is wrong at the end, as (fault, what) pairs."""
        found = []
        if self._seeds() != self.expected:
            found.append(("differs", f"versions of seeds {self._seeds()}, expected {self.expected}"))
        local = set(self.project.git("tag", "--list").splitlines())
        pushed = set(self.project.run("git", "--git-dir", str(self.folder / "origin.git"), "tag").stdout.split())
        if local != pushed:
            found.append(("differs", f"not on the remote: {local ^ pushed}"))
        accepted = self.project.git("tag", "--list", "generator@v*", "--sort=version:refname").splitlines()
        if accepted != [f"generator@v1.{number}.0" for number in range(len(self.expected))]:
            found.append(("differs", f"accepted: {accepted}"))
        if status := self.project.git("status", "--porcelain"):
            found.append(("differs", f"the working tree: {status}"))
        if len(trees := self.project.git("worktree", "list").splitlines()) != 1:
            found.append(("leftover", f"worktrees: {trees}"))
        # Prefect's runner keeps its folder, and training what `gan live` shows
        left = [str(path) for path in (self.folder / "tmp").iterdir() if path.name != "runner_storage"]
        left += [str(path) for path in (self.project.root / ".scratch").glob("*") if path.name != "live"]
        if left:
            found.append(("leftover", f"{left[:10]}"))
        return found + self._growth()

    def _growth(self):
        found = []
        for number in range(1, self.serves + 1):
            sizes = [size for _, size, serves in self.memory if serves == number]
            if len(sizes) > 3 and sizes[-1] - sizes[2] > MEMORY_GROWTH_BYTES:
                found.append(("memory", f"the serving process grew: {[size // 1_000_000 for size in sizes]} MB"))
        counts = [count for _, count in self.files]
        half = len(counts) // 2
        if half > 2 and min(counts[half:]) > max(counts[2:half]):
            found.append(("leftover", f"ever more files: {self.files}"))
        return found

    def _seeds(self):
        """The seed of each version, oldest first."""
        tags = self.project.git("for-each-ref", "--sort=refname", "--format=%(refname:short)", "refs/tags/run/").splitlines()
        texts = [self.project.git("show", f"{tag}:params.yaml") for tag in tags]
        return [int(text.partition("seed: ")[2].split()[0]) for text in texts]

    def _unpushed(self):
        return self.project.git("for-each-ref", "refs/pipeline/unpushed/")

    def _processes(self):
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd().startswith(str(self.project.root)) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _kill(self, word):
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                if word in " ".join(process.cmdline()):
                    process.kill()
                    return True
        return False

    def _log(self):
        return self.project.log(f"schedule-{self.serves}.log")[-3000:]

    def _wait(self, condition, seconds, what):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                states = Counter(run["state"]["name"] for run in self.runs.of_deployment(NAME))
                raise Fault("hang", f"{what} did not come in {seconds} s; runs: {dict(states)}\n{self._log()}")
            time.sleep(0.5)


def run(case, folder, server=None):
    """A schedule until `runs` runs have ended, with a change of parameters and a fault every few runs. server: as in Soak."""
    soak = Soak(folder, case, server)
    try:
        soak.prepare()
        soak.wait_for_runs(1)
        while soak.ended() < case["runs"] or not soak.expected:
            faults = case.get("faults", FAULTS)
            if len(soak.expected) % len(faults) == 0:
                order = soak.dice.sample(faults, len(faults))
            fault = order[len(soak.expected) % len(faults)]
            soak.change()
            soak.break_something(fault)
            soak.converge(fault)
            soak.wait_for_runs(case["quiet_runs"])
            soak.measure()
            print(f"{len(soak.expected)} changes, last {fault!r}; memory {soak.memory[-1]}, files {soak.files[-1]}", flush=True)
        soak.stop_serving()  # the worktree of a run under way is no leftover
        found = soak.wrong()
        summary = f"{soak.ended()} runs, {dict(soak.injected)}, memory {soak.memory}, files {soak.files}"
        if found:
            raise Fault(found[0][0], "\n".join([*(f"{fault}: {what}" for fault, what in found), summary, soak._log()]))
        return summary
    finally:
        soak.close()


def _warm_up():
    let_signals_through()
    with tempfile.TemporaryDirectory() as folder:
        make_project(folder, ran=True)  # what it copies is made in the project's .scratch, where a case may not write


def _kind(runs, quiet_runs, seconds):
    return Kind(
        cases=st.integers(0, 2**40).map(
            lambda seed: {"seed": seed, "runs": runs, "quiet_runs": quiet_runs, "interval_seconds": 6}
        ),
        run=run,
        warm_up=_warm_up,
        group=f"schedule of {runs}",
        spawns=True,
        seconds=seconds,
        limit_bytes=8_000_000_000,
        smallest=False,
    )


KINDS = {"hundred": _kind(100, 3, 7200)}
