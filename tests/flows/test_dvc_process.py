"""What the DVC process of a run does otherwise than DVC alone."""

import base64
import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.dvc import process
from flows.dvc.session import DvcSession
from flows.git import Repository
from flows.parent import end_to_tell
from flows.request import Parameters
from tests.helpers.toy_project import make_project


def test_a_lock_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    lock = tmp_path / "dvc.lock"
    lock.write_text("the old one")
    lock.chmod(0o640)

    def write(path, data, dumper=None):
        with open(path, "w") as file:
            file.write(data[:3])
            file.flush()
            if dumper is not None:
                raise dumper
            file.write(data[3:])

    write_lock = process._whole_or_not_at_all(write)
    with pytest.raises(KeyboardInterrupt):
        write_lock(lock, "the new one", dumper=KeyboardInterrupt())
    assert lock.read_text() == "the old one"
    write_lock(lock, "the new one")
    assert lock.read_text() == "the new one"
    assert lock.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (tmp_path / ".dvc" / "tmp").iterdir()] == []


@pytest.mark.slow
def test_a_stage_and_the_check_run_the_code_and_ask_the_repository_of_its_own_folder(tmp_path, monkeypatch):
    project = make_project(tmp_path)
    command = "python -m where > out; git rev-parse --show-toplevel >> out"
    (project.root / "dvc.yaml").write_text(json.dumps({"stages": {"one": {"cmd": command, "outs": ["out"]}}}))
    (project.root / "where.py").write_text("print('here')")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/where.py").write_text("raise SystemExit('elsewhere')")
    subprocess.run(["git", "init", "--quiet", tmp_path / "elsewhere"], check=True)
    variables = {
        "PYTHONPATH": "",
        "PYTHONSAFEPATH": "1",
        "GIT_DIR": "/.git",
        "GIT_WORK_TREE": "",
        "GIT_INDEX_FILE": "/.git/index",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value if value == "1" else f"{tmp_path}/elsewhere{value}")
    with DvcSession(project.root, grace_seconds=5) as session:
        code, lines = session.dvc("repro")
    assert code == 0, lines
    project.set("python toy.py check {file}", "python -m where {file}")
    Parameters.in_tree(Repository(project.root)).check(project.root)
    assert (project.root / "out").read_text() == f"here\n{project.root}\n"


@pytest.mark.parametrize(("login", "end"), [(None, ""), ("team:a word", ""), (None, "/")])
def test_prefect_is_told_of_a_stopped_workers_run_with_the_login_that_it_asks_for(login, end, monkeypatch):
    told = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.append((self.path, self.headers["Authorization"], content["state"]["type"]))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_):
            pass

    gone = subprocess.Popen(["true"])
    gone.wait()
    monkeypatch.setattr("os.getppid", lambda: gone.pid)
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with temporary_settings(
            {PREFECT_API_URL: f"http://127.0.0.1:{server.server_port}/api{end}", PREFECT_API_AUTH_STRING: login},
        ):
            variables = end_to_tell("0123")
        process._report(**json.loads(variables["PIPELINE_RUN"]))
        thread.join()
    expected = login and f"Basic {base64.b64encode(login.encode()).decode()}"
    assert told == [("/api/flow_runs/0123/set_state", expected, "CANCELLED")]


@pytest.mark.slow
def test_the_process_ends_with_its_flow_whatever_the_server_answers(tmp_path):
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.rfile.readline()
            self.wfile.write(b"no word of HTTP\r\n")

    gone = subprocess.Popen(["true"])
    gone.wait()
    read, write = os.pipe()
    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        api = f"http://127.0.0.1:{server.server_address[1]}/api"
        run = json.dumps({"api": api, "headers": {}, "flow_run": "0123", "parent": gone.pid})
        child = subprocess.Popen(
            [sys.executable, "-P", process.__file__, str(write), "5"],
            cwd=tmp_path,
            env={**os.environ, "PIPELINE_RUN": run},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(write,),
        )
        try:
            said = child.communicate(timeout=120)[0].decode()
        finally:
            child.kill()
            child.wait()
            os.close(read)
            os.close(write)
        thread.join()
    assert "BadStatusLine" in said
