"""Runs campaigns: makes cases up from a seed, has worker processes run them under limits, counts, and keeps what failed."""

import concurrent.futures
import contextlib
import dataclasses
import importlib
import json
import os
import queue
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from unittest import mock

import hypothesis
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.internal.conjecture import providers
from tqdm import tqdm

from tests.soak.case import FAULTS, JOBS_VARIABLE, Verdict

ROOT = Path(__file__).resolve().parents[2]
CLOSE_SECONDS = 30  # for a worker to end what it has started
CASES_A_WORKER = 400
DEFAULT_COUNT = 2000
CAMPAIGNS = {
    "inputs": "tests.soak.inputs",
    "kills": "tests.soak.kills",
    "faults": "tests.soak.faults",
    "time": "tests.soak.time_schedule",
    "supply": "tests.soak.supply",
}


class Worker:
    """One `tests.soak.worker` process, started when it is needed and again when it has died.

    jobs: how many workers there are. warming: held while one of them warms up, since what it makes then the others find made.
    """

    def __init__(self, module, jobs=1, warming=None):
        self._module = module
        self._jobs = jobs
        self._warming = warming or threading.Lock()
        self._process = None
        self._interrupted = False
        self._sandbox = None

    def run(self, name, kind, case):
        """The Verdict of one case of the Kind called `name`, and leaves its folder as `self.folder` until the next."""
        if self._process is None or self._served >= CASES_A_WORKER:
            self._start()
        self._served += 1
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        request = json.dumps({"kind": name, "case": case, "folder": str(self.folder)}) + "\n"
        answer, fault = "warm", None
        with contextlib.nullcontext() if name in self._warm else self._warming:
            start = time.monotonic()
            with contextlib.suppress(BrokenPipeError):
                self._send(request.encode())
            if name not in self._warm:
                answer, fault = self._answer(kind.warm_up_seconds, kind.limit_bytes)
        if answer == "warm":
            self._warm.add(name)
            start = time.monotonic()
            answer, fault = self._answer(kind.seconds, kind.limit_bytes)
        seconds = time.monotonic() - start
        if fault is not None:
            self.stop()
            if name not in self._warm:
                raise RuntimeError(f"{name}: no case could be run: {fault[1]}")
            return Verdict(*fault, seconds=seconds)
        verdict = Verdict(**answer)
        if verdict.peak_bytes > kind.limit_bytes:
            self.stop()  # the next case begins with the memory of a fresh process
            return dataclasses.replace(verdict, outcome="memory", message=f"{verdict.peak_bytes / 1e9:.2f} GB; {verdict.message}")
        return verdict

    def interrupt(self):
        """Have the process end, and with it the case that it runs, from another thread than the one that waits for the case."""
        self._interrupted = True
        process = self._process
        if process is not None:
            process.terminate()

    def stop(self):
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
            self._log.close()
            self._process = None

    def close(self):
        self.stop()
        if self._sandbox is not None:
            shutil.rmtree(self._sandbox, ignore_errors=True)

    def _start(self):
        self.stop()
        if self._sandbox is None:
            self._sandbox = Path(tempfile.mkdtemp(prefix="soak-")).resolve()
            for name in ("case", "tmp", "home", "outside"):
                (self._sandbox / name).mkdir()
            (self._sandbox / "outside" / "canary").write_text("untouched")
            self.folder = self._sandbox / "case"
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment |= {
            "HOME": str(self._sandbox / "home"),
            "TMPDIR": str(self._sandbox / "tmp"),
            "MPLCONFIGDIR": str(self._sandbox / "home"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONFAULTHANDLER": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self._sandbox / "home"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "no_proxy": "*",
            JOBS_VARIABLE: str(self._jobs),
        }
        self._log = open(self._sandbox / "home" / "worker.log", "w+b")  # noqa: SIM115 (closed by stop)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.worker", self._module, str(self._sandbox)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,  # else a line that has been read ahead would wait where `select` cannot see it
        )
        self._warm = set()
        self._served = 0
        if self._interrupted:
            self._process.terminate()

    def _send(self, content):
        while content:
            content = content[self._process.stdin.write(content) :]

    def _answer(self, limit_seconds, limit_bytes):
        """(the worker's answer, None), or (None, (outcome, message)) where it gave none."""
        deadline = time.monotonic() + limit_seconds
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self._process.stdout], [], [], 0.05)
            if ready:
                line = self._process.stdout.readline()
                if line:
                    return json.loads(line), None
                code = self._process.wait()
                self._log.seek(0)
                return None, ("crash", f"exit code {code}\n{self._log.read().decode(errors='replace')[-3000:]}")
            if self._resident_bytes() > limit_bytes:
                return None, ("memory", f"more than {limit_bytes / 1e9:g} GB")
        return None, ("hang", f"more than {limit_seconds} s")

    def _resident_bytes(self):
        with contextlib.suppress(OSError, StopIteration, IndexError, ValueError):
            lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return 0


class Crew:
    """`jobs` workers that share what there is to do."""

    def __init__(self, module, jobs):
        warming = threading.Lock()
        self.jobs = jobs
        self.interrupted = False
        self._workers = [Worker(module, jobs, warming) for _ in range(jobs)]
        self._free = queue.LifoQueue()
        for worker in reversed(self._workers):
            self._free.put(worker)

    @contextlib.contextmanager
    def one(self):
        """A worker that nobody else has meanwhile."""
        worker = self._free.get()
        try:
            yield worker
        finally:
            self._free.put(worker)

    def map(self, function, items):
        """function(item) of all items by as many threads as there are workers, in order; an exception ends what is under way."""
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            try:
                yield from pool.map(function, items)
            except BaseException:
                self.interrupted = True
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in self._workers:
                    worker.interrupt()
                raise

    def close(self):
        for worker in self._workers:
            worker.close()


def examples(strategy, *, seed, count, see):
    """Call see(case) for up to `count` different cases of `strategy`; the same seed and code give the same cases.

    Where `see` raises, Hypothesis looks for the smallest case that makes it raise, and this raises the same.
    """
    settings = hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
        print_blob=False,
    )

    @hypothesis.seed(seed)
    @settings
    @hypothesis.given(strategy)
    def look(case):
        see(case)

    with _no_constants_of_modules():
        look()


@contextlib.contextmanager
def _no_constants_of_modules():
    """Keep Hypothesis from drawing constants of imported modules in the block: which are depends on what ran before."""
    there = all(hasattr(providers, name) for name in ("_get_local_constants", "Constants", "CONSTANTS_CACHE"))
    assert there, f"Hypothesis {hypothesis.__version__} gets constants of modules in another way: see how to switch that off"
    providers.CONSTANTS_CACHE.cache.clear()
    with mock.patch.object(providers, "_get_local_constants", providers.Constants):
        yield
    providers.CONSTANTS_CACHE.cache.clear()


class _Found(Exception):
    pass


def smallest(strategy, failing, *, seed, count, run, limit_seconds):
    """The smallest case found that fails as the case `failing` does, by running ever smaller ones for `limit_seconds`."""
    signature = run(failing).signature
    best = failing
    deadline = time.monotonic() + limit_seconds

    def see(case):
        nonlocal best
        if time.monotonic() < deadline and run(case).signature == signature:
            if len(json.dumps(case)) <= len(json.dumps(best)):
                best = case
            raise _Found

    with contextlib.suppress(_Found, hypothesis.errors.HypothesisException, BaseExceptionGroup):
        examples(strategy, seed=seed, count=count, see=see)
    return best


@dataclasses.dataclass
class Row:
    """The counts of one kind of cases."""

    cases: int = 0
    outcomes: Counter = dataclasses.field(default_factory=Counter)
    seconds: float = 0.0
    peak_bytes: int = 0
    unchecked: list = dataclasses.field(default_factory=list)  # why cases could not be run here, a line each

    @property
    def failures(self):
        return sum(self.outcomes[fault] for fault in FAULTS)


def kinds_of(campaign):
    """The names of the kinds of a campaign."""
    return list(importlib.import_module(CAMPAIGNS[campaign]).KINDS)


def default_count(campaign):
    """How many cases a whole campaign has."""
    return getattr(importlib.import_module(CAMPAIGNS[campaign]), "COUNT", DEFAULT_COUNT)


def left_out(campaign):
    """The kinds of a campaign that cannot run on this machine: name -> why."""
    return getattr(importlib.import_module(CAMPAIGNS[campaign]), "LEFT_OUT", {})


def run_campaign(name, *, seed, count, out, kinds=None, shrink_seconds=30, quiet=False, jobs=1, hang_seconds=0):
    """Run `count` cases of the campaign `name`, `jobs` at a time; kind -> Row. Failures are left below the folder `out`.

    hang_seconds: what takes less is no hang, whatever its kind says, as on a machine that has other work.
    """
    set_hypothesis_home_dir(tempfile.gettempdir())
    module = CAMPAIGNS[name]
    campaign = importlib.import_module(module)
    chosen = {kind: campaign.KINDS[kind] for kind in kinds or campaign.KINDS}
    chosen = {one: dataclasses.replace(kind, seconds=max(kind.seconds, hang_seconds)) for one, kind in chosen.items()}
    total = sum(kind.share for kind in chosen.values())
    rows = {}
    with contextlib.ExitStack() as stack:
        crews = defaultdict(lambda: stack.enter_context(contextlib.closing(Crew(module, jobs))))
        for kind_name, kind in chosen.items():
            share = max(1, round(count * kind.share / total))
            cases = []
            examples(kind.cases, seed=seed, count=share, see=cases.append)
            # Hypothesis stops early only where there are no more different cases
            rows[kind_name] = _run_kind(
                f"{name}/{kind_name}",
                kind_name,
                kind,
                cases[:share],
                crews[kind.group],
                out=out,
                seed=seed,
                module=module,
                shrink_seconds=shrink_seconds,
                quiet=quiet,
            )
    return rows


def _run_kind(label, kind_name, kind, cases, crew, *, out, seed, module, shrink_seconds, quiet):
    row, failures, counting = Row(), {}, threading.Lock()

    def run(case):
        with crew.one() as worker:
            start = time.monotonic()
            verdict = worker.run(kind_name, kind, case)
            with counting:
                if not crew.interrupted:
                    count(case, verdict, time.monotonic() - start, worker.folder)

    def count(case, verdict, seconds, folder):
        row.cases += 1
        row.seconds += seconds
        row.outcomes[verdict.outcome] += 1
        row.peak_bytes = max(row.peak_bytes, verdict.peak_bytes)
        if verdict.outcome == "not checked":
            row.unchecked.append(f"{case}: {verdict.message}")
        if verdict.failed and verdict.signature not in failures:
            failures[verdict.signature] = (case, verdict)
            if not kind.smallest:
                _keep(Path(out) / label, len(failures) - 1, module, kind_name, case, verdict, folder)

    for _ in tqdm(crew.map(run, cases), total=len(cases), desc=label, leave=False, disable=True if quiet else None):
        pass
    if kind.smallest and failures:
        with crew.one() as worker:
            _make_small(label, kind_name, kind, len(cases), failures, worker, out, seed, module, shrink_seconds)
    return row


def _make_small(label, kind_name, kind, count, failures, worker, out, seed, module, shrink_seconds):
    """Leave a small case of each of the `failures`, signature -> (case, its Verdict)."""
    known = {json.dumps(case, sort_keys=True): verdict for case, verdict in failures.values()}

    def run(case):
        text = json.dumps(case, sort_keys=True)
        if text not in known:
            known[text] = worker.run(kind_name, kind, case)
        return known[text]

    for number, (case, first) in enumerate(failures.values()):
        if shrink_seconds:
            case = smallest(kind.cases, case, seed=seed, count=count, run=run, limit_seconds=shrink_seconds)
        verdict = worker.run(kind_name, kind, case)
        if not verdict.failed:  # it depends on what ran before, or on chance: what was seen once still counts
            verdict = dataclasses.replace(first, message=f"{first.message}\n(not again when it was repeated)")
        _keep(Path(out) / label, number, module, kind_name, case, verdict, worker.folder)


def _keep(parent, number, module, kind_name, case, verdict, case_folder):
    """Leave a failure below `parent`: case.json, the files that were made of it, what happened, and the line that repeats it."""
    folder = parent / f"{number:02d}-{verdict.outcome.replace(' ', '-')}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(json.dumps({"module": module, "kind": kind_name, "case": case}, indent=1) + "\n")
    (folder / "what.txt").write_text(f"{verdict.outcome} after {verdict.seconds:.1f} s\n{verdict.message}\n")
    shutil.copytree(case_folder, folder / "input", symlinks=True, ignore=_only_small_files, dirs_exist_ok=True)
    command = f"{shlex.quote(sys.executable)} -m tests.soak --replay {shlex.quote(str((folder / 'case.json').resolve()))}"
    (folder / "repro.sh").write_text(f"cd {shlex.quote(str(ROOT))} && {command}\n")


def _only_small_files(folder, names):
    paths = [Path(folder, name) for name in names]
    return [path.name for path in paths if not (path.is_dir() or (path.is_file() and path.stat().st_size < 10_000_000))]


def replay(path):
    """The Verdict of the case in the file `path` that a failure left."""
    content = json.loads(Path(path).read_text())
    with contextlib.closing(Worker(content["module"])) as worker:
        kind = importlib.import_module(content["module"]).KINDS[content["kind"]]
        return worker.run(content["kind"], kind, content["case"])


def table(rows):
    """The counts as lines: a row a kind, a sum at the end; `rows` is name -> Row."""
    header = ["", "cases", "taken", "refused", "not run", *FAULTS.values(), "peak MB", "seconds"]
    lines = [header]
    sums = Row()
    for name, row in rows.items():
        lines.append(_cells(name, row))
        sums.cases += row.cases
        sums.outcomes += row.outcomes
        sums.seconds += row.seconds
        sums.peak_bytes = max(sums.peak_bytes, row.peak_bytes)
    lines.append(_cells("all", sums))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if not at else cell.rjust(width) for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def _cells(name, row):
    counts = [row.cases, *(row.outcomes[outcome] for outcome in ("accepted", "refused", "not checked", *FAULTS))]
    return [name, *map(str, counts), f"{row.peak_bytes / 1e6:.0f}", f"{row.seconds:.0f}"]
