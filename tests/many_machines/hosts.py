"""A team in miniature: a server with PostgreSQL, storage with sshd, and workers with clones, homes and caches of their own."""

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.storage import Storage, sshd
from tests.helpers import toy_project
from tests.helpers.pipeline_project import ROOT, Project
from tests.helpers.toy_project import wait_for
from tests.many_machines import network

LOGIN = "team:a password of the team"
_SERVER_PORT = 4200
_CLONE_NEWNET = 0x40000000
_FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


def why_not():
    """Why there can be no such team on this machine, in one line; None where there can."""
    if reason := network.why_not():
        return reason
    if not sshd():
        return "sshd is not installed (Debian: openssh-server)"
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and shutil.which("initdb") is None:
        return "PostgreSQL is not installed (Debian: postgresql)"
    return None


@dataclass
class Worker:
    """A machine with a clone, on its host."""

    host: network.Host
    folder: Path  # with its home and its clone
    environment: dict
    process: subprocess.Popen | None = None

    @property
    def clone(self):
        return self.folder / "clone"

    def run(self, *command, check=True):
        """Run a command in the clone, on this host; its output."""
        done = subprocess.run(
            self.host.command(*command),
            cwd=self.clone,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert not check or done.returncode == 0, f"{self.host.name}: {command}: {done.returncode}\n{done.stdout}"
        return done.stdout if check else done

    def gan(self, *arguments, check=True):
        return self.run(sys.executable, "-m", "commands", *arguments, check=check)

    def start(self):
        """Start `gan worker`."""
        with open(self.folder / "worker.log", "ab") as log:
            command = self.host.command(sys.executable, "-m", "commands", "worker", "--name", self.host.name)
            self.process = subprocess.Popen(
                command, cwd=self.clone, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self):
        """End the worker in order."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(240)

    def lose_power(self):
        """Kill all that runs on this host, at once and with no warning."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(60)

    def processes(self):
        """The numbers of all processes on this host."""
        done = subprocess.run(["ip", "netns", "pids", self.host.namespace], capture_output=True, text=True, check=True)
        return [int(pid) for pid in done.stdout.split()]

    def log(self):
        return (self.folder / "worker.log").read_text(errors="replace")


def _client():
    """One whose connections are new ones, since the server may be another by now."""
    return httpx.Client(auth=tuple(LOGIN.split(":", 1)), timeout=60, limits=httpx.Limits(max_keepalive_connections=0))


@dataclass
class Team:
    """All of it; `team()` makes one."""

    folder: Path
    hosts: dict
    workers: dict = field(default_factory=dict)
    client: httpx.Client = field(default_factory=_client)
    server: subprocess.Popen | None = None
    storage: subprocess.Popen | None = None

    @property
    def store(self):
        return Storage(self.folder / "storage", self.hosts["storage"].address)

    @property
    def url(self):
        return f"http://{self.hosts['server'].address}:{_SERVER_PORT}/api"

    def post(self, path, body):
        answer = self.client.post(f"{self.url}/{path}", json=body)
        return answer.raise_for_status().json()

    def start_server(self):
        with open(self.folder / "server.log", "ab") as log:
            command = self.hosts["server"].command(
                *(sys.executable, "-m", "commands", "server", "start", "--team", "--home", self.folder / "server"),
                *("--host", self.hosts["server"].address, "--port", _SERVER_PORT, "--login-file", self.folder / "login"),
            )
            self.server = subprocess.Popen(
                command, cwd=self.folder / "start", env=_environment(self.folder), stdout=log, stderr=log, start_new_session=True
            )

        def answers():
            assert self.server.poll() is None, (self.folder / "server.log").read_text()
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"{self.url}/health", timeout=5).is_success

        wait_for(answers, 120, "the server")

    def stop_server(self):
        self.server.send_signal(signal.SIGTERM)
        self.server.wait(120)

    def patch(self, path, body):
        self.client.patch(f"{self.url}/{path}", json=body).raise_for_status()

    def change_deployment(self, name, **changes):
        """Change what the server knows of a deployment."""
        self.patch(f"deployments/{self.deployment(name)['id']}", changes)

    def change_schedule(self, name, **changes):
        """Change the one schedule of a deployment."""
        deployment = self.deployment(name)
        [schedule] = deployment["schedules"]
        self.patch(f"deployments/{deployment['id']}/schedules/{schedule['id']}", changes)

    def limit_requests(self, slots):
        """Let only so many runs that were asked for be under way at once, so that each holds a slot."""
        self.change_deployment("request", concurrency_limit=slots, concurrency_options={"collision_strategy": "ENQUEUE"})

    def request(self, *overrides):
        """Ask for a run with these parameters; its id."""
        body = {"parameters": {"overrides": list(overrides)}, "state": {"type": "SCHEDULED"}}
        return self.post(f"deployments/{self.deployment('request')['id']}/create_flow_run", body)["id"]

    def deployment(self, name):
        [found] = self.post("deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        return found

    def completed_by_schedule(self, name):
        """The messages of a deployment's runs that started by its schedule and ended well, oldest first."""
        where = {
            "deployments": {"name": {"any_": [name]}},
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
            "sort": "START_TIME_ASC",
        }
        return [run["state"]["message"] for run in self.post("flow_runs/filter", where) if run["auto_scheduled"]]

    def run_of(self, run_id):
        return self.post("flow_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})[0]

    def state(self, run_id):
        return self.run_of(run_id)["state"]

    def log(self, run_id):
        where = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        return "\n".join(item["message"] for item in self.post("logs/filter", where))

    def wait_for_end(self, run_ids, seconds):
        """Wait until all of these have ended; their states."""

        def ended():
            found = {run["id"]: run["state"] for run in self.post("flow_runs/filter", {"flow_runs": {"id": {"any_": run_ids}}})}
            return [found[run] for run in run_ids] if all(state["type"] in _FINAL for state in found.values()) else None

        return wait_for(ended, seconds, f"the end of {len(run_ids)} runs", every_seconds=1)

    def slots_held(self):
        return sum(limit["active_slots"] for limit in self.post("v2/concurrency_limits/filter", {}))

    def claims(self):
        """The claims on the git remote."""
        return self.git_at_storage("for-each-ref", "refs/pipeline/").split()

    def git_at_storage(self, *arguments):
        done = subprocess.run(["git", *arguments], cwd=self.store.folder / "git", capture_output=True, text=True, check=True)
        return done.stdout

    def add_worker(self, name):
        """A new machine: a home of its own, and a clone of what is on the storage host."""
        folder = self.folder / name
        environment = {
            **_environment(self.folder),
            **self.store.let_in(folder / "home"),
            "PREFECT_HOME": str(folder / "home/prefect"),
            "PREFECT_API_URL": self.url,
            "PREFECT_API_AUTH_STRING": LOGIN,
        }
        worker = Worker(self.hosts[name], folder, environment)
        worker.clone.mkdir()
        worker.run("git", "clone", "--quiet", self.store.url("git"), ".")
        self.workers[name] = worker
        return worker


@contextlib.contextmanager
def team(make_project, *, workers=("a", "b"), more=()):
    """Yield a Team whose server and storage run, and the project that `make_project(folder)` makes, pushed to the storage host.

    more: names of hosts that get no worker yet. The calling thread stands on a host of its own in the block.
    """
    folder = Path(tempfile.mkdtemp(prefix="team-"))
    folder.chmod(0o755)  # PostgreSQL's own user must get in
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        hosts = stack.enter_context(network.network(["server", "storage", "control", *workers, *more]))
        made = Team(folder, hosts)
        stack.callback(_end, made)
        _start_storage(made)
        _start_project(made, make_project)
        stack.enter_context(standing_on(hosts["control"]))
        (folder / "login").write_text(LOGIN)
        (folder / "login").chmod(0o600)
        made.start_server()
        for name in workers:
            made.add_worker(name)
        yield made


@contextlib.contextmanager
def standing_on(host):
    """Let this thread, and the processes that it starts, use the network of `host` in the block."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before, open(f"/var/run/netns/{host.namespace}") as there:
        assert libc.setns(there.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(before.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


def digests_by_lock(clone):
    """Read each file that the lock of `clone` names, and return the paths whose bytes are not what it says."""
    from ruamel.yaml import YAML

    wrong, seen = [], 0
    lock = YAML(typ="safe").load(clone / "dvc.lock")
    for stage in lock["stages"].values():
        for out in stage["outs"]:
            path = clone / out["path"]
            if path.is_dir():
                files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != ".gitignore")
                listed = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
                listed.sort(key=lambda item: item["relpath"])
                found = hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"
            else:
                found = _md5(path)
            seen += 1
            if found != out["md5"]:
                wrong.append(out["path"])
    assert seen
    return wrong


def _md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest() if path.exists() else None


def _start_storage(made):
    made.store.create()
    with open(made.store.folder / "sshd.log", "wb") as log:
        made.storage = subprocess.Popen(
            made.hosts["storage"].command(*made.store.command()),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def real_project(folder):
    """The small real pipeline; checkpoints come quickly, and a machine that lost power is waited for."""
    folder.mkdir()
    project = Project(folder)
    project.edit(
        lambda params: (params["runtime"].update(checkpoint_every_seconds=0.5), params["flow"].update(claim_seconds=900))
    )


def toy(folder):
    """Six stages of no weight, with the flow of this project."""
    toy_project.Project(folder).create()
    for name in ("flows", "gan"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder.parent / "source").mkdir()


def _start_project(made, make_project):
    folder = made.folder / "start"
    make_project(folder)
    shutil.copy(ROOT / "prefect.yaml", folder)
    options = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    for command in (
        ["dvc", "remote", "add", "--default", "storage", made.store.url("dvc")],
        ["git", "add", "--all"],
        ["git", *options, "commit", "--quiet", "-m", "Share"],
        ["git", "push", "--quiet", str(made.store.folder / "git"), "main"],
    ):
        subprocess.run(command, cwd=folder, env=_environment(made.folder), check=True)


def _environment(folder):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "GIT_"))}
    return {
        **environment,
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "MNIST_SOURCE": str(folder / "source"),
        "GIT_CONFIG_GLOBAL": str(ROOT / "tests/helpers/gitconfig"),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONPATH": "",
    }


def _end(made):
    """Kill all that runs on the hosts; where it ends with an error, show what workers and server have said."""
    for host in made.hosts.values():
        done = subprocess.run(["ip", "netns", "pids", host.namespace], capture_output=True, text=True, check=False)
        for pid in map(int, done.stdout.split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    made.client.close()
    for process in (made.storage, made.server, *(worker.process for worker in made.workers.values())):
        if process is not None:
            process.wait(30)
    if sys.exc_info()[0] is not None:  # at last, since nobody may listen any more
        for log in [*made.folder.glob("*/worker.log"), made.folder / "server.log"]:
            print(f"--- the end of {log}\n{log.read_text(errors='replace')[-5000:]}")
