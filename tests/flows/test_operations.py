"""What lets the pipeline be left alone: notifications to real receivers, maintenance, checks, the server's settings."""

import asyncio
import contextlib
import hashlib
import http.server
import json
import os
import pwd
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.server import free_port, prefect_server
from flows import claims
from flows.deadline import Deadline
from flows.disk import lack_of_room
from flows.git import Repository
from flows.operations import database, worker
from flows.operations.checks import connected, of_server
from flows.operations.database import Database
from flows.operations.server import read_login, serve, settings
from flows.request import Parameters
from flows.schedule import require_server
from flows.settings import FlowParams
from gan.errors import UserError
from gan.files import write_bytes, write_json
from gan.training.checkpoints import Scratch
from tests.helpers.prefect_home import prefect_home
from tests.helpers.toy_project import SOURCE, Runs, ask_server, make_project, run_id, server_url, wait_for
from tests.soak.faults_machine import small_disk, why_no_disk


def _why_no_postgresql():
    """Why PostgreSQL cannot run here, in one line; None where it can."""
    if not (shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))):
        return "PostgreSQL is not installed"
    if shutil.which("setpriv") is None:
        return "setpriv is not installed"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "PostgreSQL does not run as root, and there is no user postgres"
    return None


needs_postgresql = pytest.mark.skipif(_why_no_postgresql() is not None, reason=_why_no_postgresql() or "")


class _Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP as a client needs that has one mail to deliver."""

    def handle(self):
        self.wfile.write(b"220 a mailbox\r\n")
        lines = []
        for line in self.rfile:
            word = line[:4].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                while (line := self.rfile.readline()) != b".\r\n":
                    lines.append(line.decode())
                self.server.got.append("".join(lines))
            self.wfile.write(b"250 well\r\n")
            if word == b"QUIT":
                return


class _Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class _Locked(http.server.BaseHTTPRequestHandler):
    """What a Prefect server says whose database is locked when it is asked first."""

    def do_GET(self):
        self.send_error(404)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(self.path)
        self.send_response(503 if len(self.server.got) == 1 else 200)
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(b'[{"name": "cpu"}]')

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def receiver(handler):
    """A server on this machine whose `got` is what came."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads, server.got = True, []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(900)
def test_people_are_told_what_went_wrong_and_when_it_is_good_again_and_old_things_go(tmp_path):
    project = make_project(tmp_path, ran=True, api_url=server_url())
    shutil.copy(SOURCE / "prefect.yaml", project.root)
    shutil.copytree(SOURCE / "flows", project.root / "flows")
    project.commit("Deploy")
    with receiver(_Hook) as hook, receiver(_Mailbox) as mailbox:
        address = f"mailto://127.0.0.1:{mailbox.server_address[1]}?from=pipeline@example.org&to=team@example.org"
        url = f"http://127.0.0.1:{hook.server_address[1]}/"
        for wrong in (["--webhook", "nope"], ["--mail", "nope"]):
            done = project.gan("deploy", *wrong, check=False)
            assert done.returncode == 1 and done.stdout == "" and f"{wrong[0]}" in done.stderr and "expected" in done.stderr
        done = project.gan("deploy", "--webhook", url, "--mail", address)
        assert "the automation pipeline: tell of what is wrong" in done.stdout

        def told():
            return wait_for(lambda: hook.got and len(mailbox.got) == len(hook.got) and hook.got, 180, "the notification")

        project.pipeline("--isolated", "--set", "train.steps=4")
        worse = run_id(project.pipeline("--isolated", "--set", "train.steps=5", "--set", "evaluate.offset=5.0").stderr)
        [first] = told()
        assert first["subject"].endswith(" is Worse")
        assert "fid 15 ± 0.5, generator@v1.0.0 has 10 ± 0.5: worse by 5" in first["body"]
        assert f"/runs/flow-run/{worse}" in first["body"]
        assert "worse by 5" in mailbox.got[0].replace("=\r\n", "")
        good = run_id(project.pipeline("--isolated", "--set", "train.steps=6").stderr)
        wait_for(lambda: len(hook.got) == 2 and len(mailbox.got) == 2, 180, "the news that it is good again")
        assert hook.got[1]["subject"].endswith(": good again") and f"/runs/flow-run/{good}" in hook.got[1]["body"]
        # what is good is news once
        project.pipeline("--isolated", "--set", "train.steps=7")
        (project.control / "fail-train").touch()
        project.pipeline("--isolated", "--set", "train.steps=8", check=False)
        wait_for(lambda: len(hook.got) == 3, 180, "the failure")
        assert hook.got[2]["subject"].endswith(" is Failed") and "the loss is not finite" in hook.got[2]["body"]

    tags = project.git("tag", "--list", "run/*").split()
    old = project.root / ".scratch" / "train-0123"
    old.mkdir()
    long_ago = time.time() - 40 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    left = project.root / ".dvc/tmp/runs/0badc0de"
    left.mkdir(parents=True)
    arguments = ("maintain", "--keep-versions", "1")
    would = project.gan(*arguments, "--dry-run").stdout.splitlines()
    assert would[:3] == [
        "worktrees of runs that were killed: 1 would go: 0badc0de",
        "checkpoints: 1 would go: train-0123",
        f"versions: 1 would go: {tags[1]}",
    ]
    assert old.exists() and left.exists() and project.git("tag", "--list", "run/*").split() == tags
    did = project.gan(*arguments).stdout.splitlines()
    assert did[2].startswith(f"versions: 1 gone: {tags[1]} (Removed") and did[3] == "flow runs on the server: 0 gone"
    assert not old.exists() and not left.exists()
    assert project.git("tag", "--list", "run/*").split() == [tag for tag in tags if tag != tags[1]]
    # what was let go is made again, what stays is restored
    (project.control / "fail-train").unlink()
    again = project.pipeline("--isolated", "--set", "train.steps=4").stdout
    assert again.startswith("Completed: ") and "train Restored" in again, again
    for automation in Runs(server_url())._post("/automations/filter", {}):
        assert automation["enabled"]


@pytest.mark.slow(seconds=14)
def test_maintenance_keeps_what_anybody_still_needs(tmp_path):
    project = make_project(tmp_path, ran=True)
    project.environment.pop("PREFECT_API_URL", None)
    project.run("git", "init", "--quiet", "--bare", str(tmp_path / "git.git"))
    project.git("remote", "add", "origin", str(tmp_path / "git.git"))
    repository = Repository(project.root)
    settings = Parameters.in_tree(repository).settings

    cache, cached = project.root / ".dvc/cache/files/md5", {}

    def made(text):
        """A commit, on no branch, with data of its own."""
        digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        cached[text] = cache / digest[:2] / digest[2:]
        write_bytes(cached[text], text.encode())
        project.git("checkout", "--quiet", "--detach", "main")
        (project.root / "own.txt.dvc").write_text(f"outs:\n- md5: {digest}\n  hash: md5\n  path: own.txt\n")
        project.commit(text)
        project.git("checkout", "--quiet", "-")
        return project.git("rev-parse", "@{-1}")

    old, new, experiment = (made(text) for text in ("old", "new", "experiment"))
    tags = [f"run/2026010{day}T000000Z-0123abcd" for day in (1, 2)]
    for tag, commit in zip(tags, (old, new), strict=True):
        project.git("tag", tag, commit)
    unpushed = f"refs/pipeline/unpushed/{tags[0]}"
    project.git("update-ref", unpushed, old)
    base = project.git("rev-parse", "main")
    project.git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/an-experiment", experiment)
    server = project.root / ".scratch/prefect"
    server.mkdir(parents=True)
    long_ago = time.time() - 40 * 24 * 3600
    os.utime(server, (long_ago, long_ago))
    assert claims.Claim(repository, settings, "a-key", "a-run", print).take("wait", Deadline(10))

    def maintained(keep_versions, check=True):
        return project.gan("maintain", "--keep-versions", str(keep_versions), check=check)

    def kept():
        return [text for text, path in cached.items() if path.exists()]

    def would_go(keep_versions):
        done = project.gan("maintain", "--dry-run", "--keep-versions", str(keep_versions))
        return next(line for line in done.stdout.splitlines() if line.startswith("the cache's unused data: "))

    digest = "ab" * 16  # of a result that is in the run cache alone
    write_bytes(cache / digest[:2] / digest[2:], bytes(2_000_000))
    entry = f"cmd: a\ndeps:\n- path: a\n  md5: {digest}\nouts:\n- path: a.txt\n  hash: md5\n  md5: {digest}\n"
    write_bytes(project.root / ".dvc/cache/runs/11" / ("1" * 64) / ("2" * 64), entry.encode())
    said = would_go(100)
    assert re.search(r": \d files would go, 2.0 MB that no commit, .*; with them the results of 1 run of stages", said)
    assert kept() == ["old", "new", "experiment"]
    assert "the cache's unused data: 1 gone" in maintained(100).stdout
    assert kept() == ["old", "new", "experiment"]
    refused = maintained(1, check=False)
    said = f"gan: {tags[0]} is not pushed yet; the next run pushes it, prune after that\n"
    assert (refused.returncode, refused.stderr) == (1, said)
    assert kept() == ["old", "new", "experiment"] and project.git("tag").split() == tags
    project.git("update-ref", "-d", unpushed)
    assert would_go(1).endswith(": 1 file would go, 3 bytes that no commit, no experiment and not the working tree names")
    assert would_go(100) == "the cache's unused data: 0 would go"
    assert f"versions: 1 gone: {tags[0]} (Removed" in maintained(1).stdout
    assert kept() == ["new", "experiment"] and project.git("tag") == tags[1]
    assert server.is_dir()
    assert project.git("ls-remote", "origin").split()[1:] == [f"{claims.REFS}a-key"]


@pytest.mark.slow(seconds=8)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_checkpoints_of_trainings_that_nobody_goes_on_with_go(elsewhere, tmp_path):
    project = make_project(tmp_path)
    project.environment.pop("PREFECT_API_URL", None)
    folder = tmp_path / "scratch" if elsewhere else project.root / ".scratch"
    if elsewhere:
        project.environment["GAN_SCRATCH"] = str(folder)
    keys = [letter * 32 for letter in "abc"]
    with contextlib.ExitStack() as stack:
        for key in keys:
            scratch = Scratch(folder / "train", key)
            if key == "c" * 32:
                stack.enter_context(scratch)  # somebody goes on with it now
                scratch.save(1, {"weights": np.zeros(3)})
            else:
                with scratch:
                    scratch.save(1, {"weights": np.zeros(3)})
        (folder / "train/mine").mkdir()
        long_ago = time.time() - 40 * 24 * 3600
        for path in [*(folder / "train").rglob("*"), folder]:
            if "b" * 32 not in str(path):
                os.utime(path, (long_ago, long_ago))
        assert "checkpoints: 1 would go: aaaa" in project.gan("maintain", "--dry-run").stdout
        assert "checkpoints: 1 gone: aaaa" in project.gan("maintain").stdout
        assert sorted(path.name for path in (folder / "train").iterdir()) == [*keys[1:], "c" * 32 + ".lock", "mine"]
        assert scratch.load()["weights"].size == 3


@pytest.mark.slow(seconds=8)
def test_runs_of_other_projects_on_the_same_server_stay(tmp_path):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.operations.maintenance import Retention, maintain

    url = server_url()
    runs = {}
    for name in ("pipeline", "somebody-elses"):
        flow_id = ask_server("POST", f"{url}/flows/", json={"name": name}).json()["id"]
        runs[name] = ask_server("POST", f"{url}/flow_runs/", json={"flow_id": flow_id, "name": f"a {name}"}).json()["id"]
        ended = {"state": {"type": "COMPLETED"}, "force": True}
        ask_server("POST", f"{url}/flow_runs/{runs[name]}/set_state", json=ended)
    project = make_project(tmp_path)
    with temporary_settings({PREFECT_API_URL: url}):
        maintain(Repository(project.root), Retention(100, False, 30, run_days=0), dry_run=False, log=print)
    left = {run["id"] for run in ask_server("POST", f"{url}/flow_runs/filter", json={}).json()}
    assert runs["pipeline"] not in left and runs["somebody-elses"] in left


@pytest.mark.slow(seconds=8)
def test_all_old_runs_go_however_many_the_server_names_at_once(tmp_path, monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.operations import maintenance

    url = server_url()
    flow_id = ask_server("POST", f"{url}/flows/", json={"name": "maintenance"}).json()["id"]
    runs = [ask_server("POST", f"{url}/flow_runs/", json={"flow_id": flow_id}).json()["id"] for _ in range(5)]
    for run in runs:
        ended = {"state": {"type": "COMPLETED"}, "force": True}
        ask_server("POST", f"{url}/flow_runs/{run}/set_state", json=ended)
    monkeypatch.setattr(maintenance, "MOST_AT_ONCE", 2)
    retention = maintenance.Retention(100, False, 30, run_days=0)
    with temporary_settings({PREFECT_API_URL: url}):
        maintenance.maintain(Repository(make_project(tmp_path).root), retention, dry_run=False, log=print)
    left = {run["id"] for run in ask_server("POST", f"{url}/flow_runs/filter", json={}).json()}
    assert not left & set(runs)


@pytest.mark.slow(seconds=12)
def test_maintenance_tells_the_server_of_a_run_that_was_killed(tmp_path):
    url = server_url()
    flow_id = ask_server("POST", f"{url}/flows/", json={"name": "pipeline"}).json()["id"]
    killed = ask_server("POST", f"{url}/flow_runs/", json={"flow_id": flow_id}).json()["id"]
    running = {"state": {"type": "RUNNING"}, "force": True}
    ask_server("POST", f"{url}/flow_runs/{killed}/set_state", json=running)
    project = make_project(tmp_path, api_url=url)
    note = project.root / ".dvc/tmp/flow.json"
    write_json(note, {"name": "a run", "flow_run": killed, "pid": 1})
    project.gan("maintain", "--dry-run")
    assert Runs(url).state(killed) == ("CRASHED", "Crashed") and not note.exists()


@pytest.mark.slow
def test_maintenance_says_in_one_line_that_the_server_is_out_of_reach(tmp_path):
    project = make_project(tmp_path, api_url="http://127.0.0.1:9/api")
    done = project.gan("maintain", "--dry-run", check=False)
    said = "gan: the Prefect server at http://127.0.0.1:9/api does not answer ([Errno 111] Connection refused); try again\n"
    assert (done.returncode, done.stderr) == (1, said)


# stands for environment.py: what it makes runs this environment's Python, and it notes what it was asked for
_ENVIRONMENT = f"""import pathlib, sys

folder = pathlib.Path(sys.argv[1])
(folder / "bin").mkdir(parents=True, exist_ok=True)
for name, words in (("python", ""), ("gan", "-m commands")):
    (folder / "bin" / name).write_text('#!/bin/sh\\nexec {sys.executable} ' + words + ' "$@"\\n')
    (folder / "bin" / name).chmod(0o755)
with open(folder / "log", "a") as log:
    print(sys.argv[2], file=log)
"""


@pytest.mark.slow
def test_a_server_whose_database_is_locked_is_asked_again():
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with receiver(_Locked) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/api"
        with temporary_settings({PREFECT_API_URL: url}), connected() as asked:
            assert asked.post("work_pools/pipeline/queues/filter", {}) == [{"name": "cpu"}]
    assert server.got == ["/api/work_pools/pipeline/queues/filter"] * 2


@pytest.mark.slow(seconds=16)
def test_the_server_is_asked_as_prefects_own_client_asks_it(tmp_path):
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    with prefect_server(prefect_home(tmp_path / "home"), PREFECT_SERVER_API_AUTH_STRING="secret") as (url, _):
        # an end that people copy along, and a login without a name
        for address, login, text in ((f"{url}/", "secret", " at http://"), (url, "other", " wants a login")):
            with temporary_settings({PREFECT_API_URL: address, PREFECT_API_AUTH_STRING: login}):
                require_server()
                server, clock = of_server()
                assert text in server.text and server.good == clock.good == (login == "secret"), server


@pytest.mark.slow(seconds=16)
def test_a_server_whose_free_port_is_taken_meanwhile_gets_another(tmp_path, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ports = [other.getsockname()[1], free_port()]
        monkeypatch.setattr("benchmarks.server.free_port", iter(ports).__next__)
        with prefect_server(prefect_home(tmp_path / "home")) as (url, _):
            assert url == f"http://127.0.0.1:{ports[1]}/api"


@pytest.mark.slow(seconds=13)
@pytest.mark.parametrize(
    ("address", "said"),
    [("http://127.0.0.1:abc/api", "(Invalid port: 'abc')"), ("http://[::1/api", "[::1/api is not valid (Invalid IPv6 URL)")],
)
def test_an_address_that_is_none_is_one_line(address, said, tmp_path):
    project = make_project(tmp_path, ran=True, api_url=address)
    schedule = ("schedule", "--interval-seconds", "60")
    for command in (("doctor",), ("deploy",), ("flow",), ("maintain", "--dry-run"), schedule):
        done = project.gan(*command, check=False)
        assert done.returncode == 1 and said in done.stdout + done.stderr, command
        assert len(done.stderr.splitlines()) == (said not in done.stdout), done.stderr


@pytest.mark.slow
def test_settings_of_prefects_that_are_none_are_one_line(tmp_path):
    project = make_project(tmp_path)
    project.environment["PREFECT_API_REQUEST_TIMEOUT"] = "soon"
    done = project.gan("maintain", "--dry-run", check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("gan: Prefect's settings are not valid: APISettings.request_timeout: Input should be a valid")
    del project.environment["PREFECT_API_REQUEST_TIMEOUT"]
    project.environment["PREFECT_PROFILE"] = "nosuch"  # of which Prefect warns
    assert "Active profile 'nosuch'" in project.gan("maintain", "--dry-run").stderr


@pytest.mark.slow(seconds=40)
@pytest.mark.timeout(900)
def test_a_pool_of_any_name_gets_the_deployments_and_two_clones_no_name_in_common(tmp_path):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with prefect_server(prefect_home(tmp_path / "home")) as (url, _):
        project = make_project(tmp_path, ran=True, api_url=url)
        shutil.copytree(SOURCE / "flows", project.root / "flows")
        text = (SOURCE / "prefect.yaml").read_text()
        text += "\n  - name: elsewhere\n    entrypoint: flows/pipeline.py:pipeline\n    work_pool: {name: theirs}\n"
        (project.root / "prefect.yaml").write_text(text)
        project.run(sys.executable, "-m", "prefect", "work-pool", "create", "theirs", "--type", "process")
        project.gan("deploy", "--pool", "other")

        def deployments(key):
            return {one["name"]: one[key] for one in Runs(url)._post("/deployments/filter", {})}

        assert deployments("work_pool_name") == dict.fromkeys(("nightly", "request", "cells"), "other") | {"elsewhere": "theirs"}
        [step] = {json.dumps(deployments("pull_steps")[name]) for name in ("nightly", "request", "cells")}
        assert "{{ $PIPELINE_HOME }}" in step
        assert (project.root / "prefect.yaml").read_text() == text

        copy = tmp_path / "copy"
        shutil.copytree(project.root, copy, symlinks=True)
        here, there = Repository(project.root), Repository(copy)
        with temporary_settings({PREFECT_API_URL: url}):
            assert asyncio.run(worker._plan_maintenance(here, "other", "a-host")) == "machine-a-host"
            asyncio.run(worker._plan_maintenance(here, "other", "a-host"))
            with pytest.raises(UserError, match=f"^the worker in {here.root} has the name a-host; give this one another"):
                worker.run_worker(there, pool="other", queues=["cpu"], name="a-host", stop_seconds=1)
            here.root.rename(tmp_path / "gone")  # and was moved, perhaps
            asyncio.run(worker._plan_maintenance(there, "other", "a-host"))
        assert str(copy) in str(deployments("pull_steps")["a-host"])


@pytest.mark.parametrize("name", ["gpu/1", "50%", ""])
def test_a_worker_of_a_name_that_the_server_refuses_is_one_line(tmp_path, name):
    command = [sys.executable, "-m", "commands", "worker", "--name", name]
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"gan: --name {name!r}: expected a name without % & / < >\n"


@pytest.mark.slow(seconds=15)
def test_a_worker_that_starts_takes_up_new_commits_and_makes_its_environment_anew(tmp_path):
    project = make_project(tmp_path, ran=True, api_url="http://127.0.0.1:9/api")
    for name in ("Makefile", "pyproject.toml", "requirements.in", "requirements.lock", "requirements-installer.lock"):
        shutil.copy(SOURCE / name, project.root)
    (project.root / "environment.py").write_text(_ENVIRONMENT)
    project.commit("Deploy")
    project.run("git", "init", "--quiet", "--bare", "-b", "main", str(tmp_path / "git"))
    project.git("remote", "add", "origin", str(tmp_path / "git"))
    project.git("push", "--quiet", "origin", "main")
    clone = tmp_path / "clone"
    project.run("git", "clone", "--quiet", str(tmp_path / "git"), str(clone))
    # a version that is only here, a team's moving tag, and a person's wish to have no more than the remote has
    for command in (
        ["config", "fetch.prune", "true"],
        ["config", "fetch.pruneTags", "true"],
        ["tag", "run/1"],
        ["tag", "latest"],
    ):
        project.git("-C", str(clone), *command)

    def worker():
        """What `make worker` says where there is no server, and what its environment was made of so far."""
        done = subprocess.run(
            ["make", "worker", "ARGS=--name 'a b'"], cwd=clone, env=project.environment, capture_output=True, text=True
        )
        assert done.stdout.count("BAD server: http://127.0.0.1:9/api does not answer") == 1, done.stdout + done.stderr
        return done.stdout, (clone / ".venv/log").read_text().splitlines()

    said, made = worker()
    assert "at commit" not in said and made == ["requirements.lock", "."]
    (project.root / "new.txt").write_text("a commit that changes no lock")
    project.commit("Change something")
    project.git("tag", "latest")
    project.git("push", "--quiet", "origin", "main", "latest")
    said, made = worker()
    assert f"at commit {project.git('rev-parse', 'HEAD')[:12]}" in said and len(made) == 2
    with open(project.root / "requirements.lock", "a") as lock:
        lock.write("# another\n")
    project.commit("Change the lock")
    project.git("push", "--quiet", "origin", "main")
    said, made = worker()
    assert "at commit" in said and made == ["requirements.lock", "."] * 2
    assert (clone / "requirements.lock").read_bytes() == (project.root / "requirements.lock").read_bytes()
    assert project.git("-C", str(clone), "tag").split() == ["latest", "run/1"]


def test_the_server_serves_this_machine_alone_without_a_login(tmp_path):
    with pytest.raises(UserError, match="everybody there could run code on the workers"):
        serve(host="0.0.0.0", port=4200, home=tmp_path, team=False, login_file=None)  # noqa: S104
    login = tmp_path / "login"
    login.write_text("team:word")
    login.chmod(0o644)
    with pytest.raises(UserError, match="others can read it"):
        read_login(login)
    login.chmod(0o600)
    assert read_login(login) == "team:word"
    login.write_bytes("team:wörter".encode("latin-1"))
    with pytest.raises(UserError, match="login: expected UTF-8"):
        read_login(login)
    login.write_text("word")
    with pytest.raises(UserError, match="expected one line user:password"):
        read_login(login)


def test_the_page_asks_the_port_that_it_came_from(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    environment = settings(host="127.0.0.1", port=4300, home=tmp_path, login=None)
    assert environment["PREFECT_SERVER_UI_API_URL"] == "http://127.0.0.1:4300/api"
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false" and environment["PREFECT_HOME"] == str(tmp_path)
    assert "PREFECT_API_URL" not in environment and "PREFECT_SERVER_API_AUTH_STRING" not in environment
    assert settings(host="10.0.0.1", port=4300, home=tmp_path, login="a:b")["PREFECT_SERVER_API_AUTH_STRING"] == "a:b"


def test_a_backup_of_nothing_overwrites_none(tmp_path):
    backup = tmp_path / "prefect.dump"
    backup.write_text("the last good one")
    with pytest.raises(UserError, match="there is no team's database here; --home says which"):
        Database(tmp_path / "mistyped" / "database").back_up(backup)
    assert [path.name for path in tmp_path.iterdir()] == ["prefect.dump"] and backup.read_text() == "the last good one"


@pytest.fixture
def open_folder():
    """A folder that every user may enter, unlike pytest's own: as root, PostgreSQL runs as another."""
    short = "/tmp" if Path("/tmp").is_dir() else None  # the path of a socket is a short one
    with tempfile.TemporaryDirectory(dir=short) as folder:
        Path(folder).chmod(0o711)
        if subprocess.run([*database._as_postgres(), "test", "-x", folder], check=False).returncode != 0:
            pytest.skip(f"the user postgres may not enter {folder}")
        if len(folder) > 40:
            pytest.skip(f"{folder} is too long a path for a socket")
        yield Path(folder)


@pytest.mark.slow(seconds=10)
@needs_postgresql
def test_a_backup_is_for_its_user_alone(open_folder):
    backup = open_folder / "prefect.dump"
    backup.write_text("the last one")
    backup.chmod(0o644)
    kept = Database(open_folder / "home" / "database")
    with database._umask(0o022), kept.running():
        kept.back_up(backup)
        assert backup.read_bytes().startswith(b"PGDMP") and backup.stat().st_mode & 0o777 == 0o600
        write_bytes(open_folder / "another", b"")
    assert (open_folder / "another").stat().st_mode & 0o077, "the umask is as it was"


@pytest.mark.slow(seconds=25)
@pytest.mark.timeout(900)
@needs_postgresql
def test_a_teams_server_keeps_its_records_where_it_is_told_whatever_the_name_and_the_umask(open_folder):
    home, port = open_folder / "c++ R&D 50%25" / "gan", free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment["PREFECT_HOME"] = str(open_folder / "another")
    command = [sys.executable, "-m", "commands", "server", "start", "--team", "--home", home, "--port", str(port)]
    with (
        open(open_folder / "log", "w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log, umask=0o027) as made,
    ):
        try:

            def answers():
                assert made.poll() is None, (open_folder / "log").read_text()
                with contextlib.suppress(httpx.HTTPError):
                    return httpx.get(f"http://127.0.0.1:{port}/api/health").is_success

            wait_for(answers, 240, "the server")
            backup = open_folder / "prefect.dump"
            Database(home / "database").back_up(backup)
        finally:
            made.send_signal(signal.SIGINT)
    assert b"flow_run" in backup.read_bytes(), "the tables are there"
    assert not (open_folder / "another").exists()
    assert not Database(home / "database").answers()


@needs_postgresql
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has PostgreSQL run as another user")
def test_a_folder_that_postgresql_may_not_enter_is_named(open_folder):
    (open_folder / "a closed").mkdir(mode=0o700)
    named = f"^{open_folder}/a closed: the user postgres may not enter it; chmod o.x '{open_folder}/a closed', or"
    with pytest.raises(UserError, match=named), Database(open_folder / "a closed/gan/database").running():
        pass


def test_the_newest_postgresql_is_found_beside_what_old_ones_have_left(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "_DEBIANS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for version in ("9.6", "10", "9.10", "15"):
        (tmp_path / version / "bin").mkdir(parents=True)
    for version in ("9.6", "10", "9.10"):
        (tmp_path / version / "bin/pg_dump").touch()
    assert database._program("pg_dump") == f"{tmp_path}/10/bin/pg_dump"


def test_a_folder_too_deep_for_a_socket_is_refused(tmp_path):
    with pytest.raises(UserError, match="too long a path for a socket"), Database(tmp_path / ("x" * 100)).running():
        pass


@pytest.mark.slow(seconds=10)
def test_a_stage_is_not_started_on_a_full_disk_and_nothing_is_lost(tmp_path):
    if reason := why_no_disk():
        pytest.skip(reason)
    with small_disk(tmp_path / "disk", 80 << 20) as disk:
        project = make_project(disk, ran=True, api_url=server_url())
        (disk / "ballast").write_bytes(bytes(20 << 20))
        done = project.pipeline("--set", "train.steps=4", check=False)
        last = done.stdout.splitlines()[-1]
        assert last.startswith("Failed: train is not started: 0.0"), done.stdout
        assert last.endswith(" GB free on the disk, flow.free_gigabytes asks for 0.1; gan maintain makes room")
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert Runs(server_url()).state(run_id(done.stderr)) == ("FAILED", "Failed")
        assert (project.root / "data/model/weights.txt").read_text() == "0 3"
        (disk / "ballast").unlink()
        assert "train Ran" in project.pipeline("--set", "flow.free_gigabytes=0.01").stdout


def test_what_lacks_of_room_is_one_line(tmp_path):
    asked = FlowParams.model_construct(free_gigabytes=1e9)
    assert "flow.free_gigabytes asks for 1e+09; gan maintain makes room" in lack_of_room(tmp_path, asked)
    assert lack_of_room(tmp_path, FlowParams.model_construct(free_gigabytes=0.0)) is None
