"""A small real repository that a case may break, and what must be true of it afterwards. Shared by kills, faults and time."""

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from flows.dvc.damage import says_damaged_lock
from tests.helpers.pipeline_project import Project
from tests.helpers.prefect_home import prefect_home
from tests.soak.case import JOBS_VARIABLE, Fault

ROOT = Path(__file__).resolve().parents[2]
GRACE_SECONDS = 5
ORPHAN_SECONDS = 10  # in which every process that belongs to an ended command must be gone
STAGES = ["fetch", "normalize", "judge", "train", "evaluate", "gallery", "report"]
LONGEST_SECONDS = 400  # of a command that nothing disturbs
_MARK = "SOAK_CASE"  # in the environment of all that a case starts
_PR_SET_PDEATHSIG = 1
_CACHED_NAME = re.compile(r"[0-9a-f]{30}(\.dir)?")


@functools.cache
def template(until=None):
    """The folder of a repository that has run once, its sources and a used Prefect home beside it. Kept between campaigns.

    until: the last stage that has run; by default all have.
    """
    code = hashlib.sha256(str(until).encode())
    for path in sorted(path for name in ("gan", "sets", "stages") for path in (ROOT / name).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            code.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    for path in ("dvc.yaml", "params.yaml", "tests/helpers/pipeline_project.py", __file__):
        code.update((ROOT / path).read_bytes())
    kept = ROOT / ".scratch" / "soak-templates"
    found = kept / code.hexdigest()[:16]
    if not found.exists():
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as folder:
            _make_template(Path(folder), until)
            with contextlib.suppress(OSError):  # another campaign was faster
                (Path(folder) / "made").rename(found)
    return found


def _make_template(folder, until):
    made = folder / "made"
    (made / "project").mkdir(parents=True)
    project = Project(made / "project")
    project.environment = {**project.environment, "DVC_SITE_CACHE_DIR": str(folder / "site"), "PREFECT_HOME": str(made / "home")}
    for name in ("PREFECT_API_URL", "PYTHONPATH"):
        project.environment.pop(name, None)

    def change(params):
        params["judge"].update(sample_count=200)
        params["judge"]["classifier"].update(epochs=1)
        params["train"].update(steps=601)
        params["flow"].update(grace_seconds=GRACE_SECONDS, free_gigabytes=0.0)  # the small disks of faults have less
        params["runtime"].update(checkpoint_every_seconds=1)

    project.edit(change)
    project.repro(*([until] if until else []))
    project.commit("first run")
    prefect_home(made / "home")
    shutil.rmtree(project.folder / ".dvc" / "cache" / "runs")  # a stage that is taken out of the lock must run again
    assert project.run("git", "status", "--porcelain") == ""


class Place:
    """One case's repository below `folder`: the template's results, without those of the stages `missing`.

    until: as in `template`. missing: taken out of dvc.lock, so that they must run again. keep_outs: whether their outputs still
    lie there. logs: the folder of what commands print, by default beside the repository.
    """

    def __init__(self, folder, *, until=None, missing=(), keep_outs=True, api_url=None, logs=None):
        source = template(until)
        self.folder = Path(folder)
        self.root, self.tmp = self.folder / "project", self.folder / "tmp"
        for name in ("tmp", "site"):
            (self.folder / name).mkdir(parents=True)
        self.logs = logs or self.folder / "logs"
        self.logs.mkdir()
        shutil.copytree(source / "project", self.root, symlinks=True)
        for name in ("commands", "flows"):  # no result depends on them, so the template may have older ones
            shutil.rmtree(self.root / name)
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(source / "home", self.folder / "home")
        self.mark = uuid.uuid4().hex
        self.environment = {
            **os.environ,
            _MARK: self.mark,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TMPDIR": str(self.tmp),
            "MNIST_SOURCE": str(source / "source"),
            "DVC_SITE_CACHE_DIR": str(self.folder / "site"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_GLOBAL": str(ROOT / "tests/helpers/gitconfig"),
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        for name in ("PYTHONPATH", "PREFECT_API_URL", "GAN_SCRATCH"):
            self.environment.pop(name, None)
        if api_url:
            self.environment["PREFECT_API_URL"] = api_url
        self.wanted_lock = self.lock()
        self.wanted = self.digests()
        self._forget(missing, keep_outs)

    def _forget(self, missing, keep_outs):
        content = self._yaml("dvc.lock")
        for stage in set(missing):
            outs = [out["path"] for out in content["stages"].pop(stage)["outs"]]
            if not keep_outs:
                for path in outs:
                    path = self.root / path
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        with open(self.root / "dvc.lock", "w") as file:
            YAML().dump(content, file)
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", f"Forget {' '.join(sorted(set(missing)))}")

    def _yaml(self, name):
        return YAML().load(self.root / name)

    def lock(self):
        """What dvc.lock says, stage by stage."""
        return json.loads(json.dumps(YAML(typ="safe").load(self.root / "dvc.lock")["stages"]))

    def outs(self, stage):
        """The paths of a stage's outputs."""
        return [self.root / out["path"] for out in self.wanted_lock[stage]["outs"]]

    def cached(self, stage):
        """The files in DVC's cache that hold a stage's outputs, each file once."""
        found = []
        for out in self.wanted_lock[stage]["outs"]:
            if "md5" not in out:
                continue
            file = self._cache_file(out["md5"])
            if not file.exists():  # git keeps this output
                continue
            found.append(file)
            if out["md5"].endswith(".dir"):
                found += [self._cache_file(item["md5"]) for item in json.loads(file.read_bytes())]
        return sorted(set(found))

    def _cache_file(self, md5):
        return self.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]

    def digests(self):
        """Path below data/ -> SHA-256; times are no result."""
        data = self.root / "data"
        files = [path for path in data.rglob("*") if path.is_file() and path.name != ".gitignore" and "timings" not in path.parts]
        return {str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def git(self, *arguments):
        """The standard output of a git command."""
        return subprocess.run(
            ["git", *arguments], cwd=self.root, env=self.environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    def start(self, *command, log="command", **options):
        """Start a command in a session of its own; what it prints goes to a file."""
        with open(self.logs / f"{log}.log", "w") as output:
            return subprocess.Popen(
                words(command),
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )

    def log(self, name="command"):
        """What a command has printed so far."""
        return (self.logs / f"{name}.log").read_text(errors="replace")

    def run(self, *command, log="command", limit_seconds=LONGEST_SECONDS, **options):
        """Run a command to its end: its exit code. Raises Fault for a hang."""
        process = self.start(*command, log=log, **options)
        try:
            return process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            raise Fault("hang", f"{command}: more than {limit_seconds} s\n{self.log(log)[-2000:]}") from None
        finally:
            self.end_all()
            process.wait()

    def run_next(self, *command, by_dvc_alone):
        """Run what comes after the trouble to its end, logged as "next": its exit code.

        by_dvc_alone: DVC writes dvc.lock and its file of locks in place, and goes no further where one is cut off; then this does
        what `make repro` would. A flow has to get along by itself.
        """
        code = self.run(*command, log="next")
        said = self.log("next")
        if code != 0 and by_dvc_alone and (says_damaged_lock(said) or "Unable to read RWLock-file" in said):
            self.run("python", "-m", "commands", "restore", log="restore")
            code = self.run(*command, log="next")
        return code

    def processes(self):
        """Living processes that belong to the case."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                ours = process.environ().get(_MARK) == self.mark or Path(process.cwd()).is_relative_to(self.root)
                if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def orphans(self, seconds=ORPHAN_SECONDS):
        """The command lines of processes that are still there after so many seconds; they are ended."""
        end = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.2)
        lines = [_line(process) for process in left]
        self.end_all()
        return lines

    def end_all(self):
        """Kill what is left."""
        found = self.processes()
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=5)

    def wrong(self, *, isolated=False, by_dvc_alone=False):
        """What is wrong with the repository after it was brought up to date, as (one of FAULTS, what) pairs.

        isolated: by runs in worktrees, whose results are versions; the working tree is then to be as it was committed.
        by_dvc_alone: no flow has run since, and DVC keeps what a killed DVC has written into its file of locks until it meets it.
        """
        found = []
        if isolated:
            found += self._wrong_versions()
        else:
            found += self._wrong_results()
        return found + [("leftover", what) for what in self._leftovers(by_dvc_alone)]

    def _wrong_results(self):
        found, digests = [], self.digests()
        changed = [name for name in self.wanted if name in digests and digests[name] != self.wanted[name]]
        if missing := sorted(set(self.wanted) - set(digests)):
            found.append(("differs", f"missing: {missing[:5]}"))
        if changed:
            found.append(("differs", f"changed: {changed[:5]}"))
        if more := sorted(set(digests) - set(self.wanted)):
            found.append(("leftover", f"in data: {more[:5]}"))
        if self.lock() != self.wanted_lock:
            found.append(("differs", "dvc.lock"))
        return found

    def _wrong_versions(self):
        found = []
        tags = self.git("tag", "--list", "run/*").splitlines()
        if len(tags) != 1:
            found.append(("differs", f"expected one version, got {tags}"))
        if len(accepted := self.git("tag", "--list", "*@v*").splitlines()) != 1:
            found.append(("differs", f"expected one accepted version, got {accepted}"))
        for tag in tags[:1]:
            lock = YAML(typ="safe").load(self.git("show", f"{tag}:dvc.lock"))["stages"]
            if json.loads(json.dumps(lock)) != self.wanted_lock:
                found.append(("differs", f"dvc.lock of {tag}"))
        if status := self.git("status", "--porcelain"):
            found.append(("differs", f"the working tree: {status[:300]}"))
        return found

    def _leftovers(self, by_dvc_alone):
        root = self.root
        patterns = [".scratch/train/**/*", ".dvc/tmp/runs/*", ".dvc/tmp/flow.json", ".git/**/*.lock", ".git/worktrees/*"]
        found = [str(path.relative_to(root)) for pattern in patterns for path in root.glob(pattern) if path.name != "train"]
        # Prefect's runner keeps this folder, and leaves an empty one in it when it is killed
        temporary = [path for path in self.tmp.rglob("*") if "runner_storage" not in path.parts or not path.is_dir()]
        found += [f"TMPDIR/{path.relative_to(self.tmp)}" for path in temporary]
        cached = [path for path in (root / ".dvc" / "cache" / "files").rglob("*") if path.is_file()]
        found += [str(path.relative_to(root)) for path in cached if not _CACHED_NAME.fullmatch(path.name)]
        new = self.git("ls-files", "--others", "--exclude-standard").splitlines()
        found += [f"new: {path}" for path in new if path.removeprefix("data/") not in self.wanted]
        rwlock = root / ".dvc" / "tmp" / "rwlock"
        locks = json.loads(rwlock.read_text()) if rwlock.exists() else {}
        holders = list(locks.get("write", {}).values()) + [info for infos in locks.get("read", {}).values() for info in infos]
        if by_dvc_alone:
            holders = [info for info in holders if psutil.pid_exists(info["pid"])]
        if holders:
            found.append(f"rwlock: {holders[:3]}")
        return found


def shows_traceback(command, log):
    """Whether a log holds a traceback of this project's own `command`, or of its stages below "repro", which is DVC's.

    One of Python's own start, before it comes to the first line of this project, is not meant, nor one of DVC's own.
    """
    _, traceback, frames = log.partition("Traceback (most recent call last)")
    places = ("/project/stages/",) if command == "repro" else ("/project/", "/site-packages/")
    return bool(traceback) and any(place in frames for place in places)


def words(command):
    """A command's words, with this Python for `python`."""
    first, *others = command
    return [sys.executable if first == "python" else first, *map(str, others)]


def die_with_me():
    """For `preexec_fn`: the child ends when this process does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@functools.cache
def burn(count=2):
    """Keep `count` cores busy until this process ends, less one for each other case that runs meanwhile.

    None where the machine is busier than that anyway.
    """
    others = int(os.environ.get(JOBS_VARIABLE, "1")) - 1
    if os.getloadavg()[0] > os.cpu_count():
        return []
    command = [sys.executable, "-c", "while True: pass"]
    return [subprocess.Popen(command, preexec_fn=die_with_me) for _ in range(count - others)]


def let_signals_through():
    """A shell's background job ignores SIGINT, and so would all that it starts; SIGTERM ends this process in order."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def fail_if(found, *logs):
    """Raise the Fault of the first of the (fault, what) pairs in `found`, telling all of them and the logs."""
    if found:
        text = "\n".join(f"{fault}: {what}" for fault, what in found)
        raise Fault(found[0][0], "\n".join([text, *(f"--- {log[-2500:]}" for log in logs)]))


def _line(process):
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {' '.join(process.cmdline())[:160]}"
    return str(process.pid)
