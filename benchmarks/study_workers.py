"""The wall time of a study on one worker and on two, each held to one core, and the bytes of a serial run beside theirs.

Four cells of the lecture's set at a few hundred steps, with the real stages, at the commit that is checked out: first serially
without a server, then on one worker, then on two. Everything happens in clones in a temporary folder, each with a DVC cache of
its own; what comes before the training is theirs before the clock starts. Needs two cores, `taskset`, and the results of the
stages fetch, normalize and judge in DVC's cache. Prints Markdown, and ends with 1 if any cell has other bytes.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.command import leave_out_users_dvc, run_as_command  # noqa: E402 (run as a file, it must find its neighbours first)
from benchmarks.server import prefect_environment, prefect_server  # noqa: E402

_END_SECONDS = 30  # for a worker with nothing to do
BEFORE = ("fetch", "normalize", "judge")
STUDY = """\
study:
  question: Does the batch size matter in the first steps?
  stage: evaluate
  metrics:
    fid: {{better: lower, smallest_difference: 5.0}}
  seeds: {{parameter: train.seed, first: 0, count: 2, most: 2}}
  paired: false
  baseline: {{set: lecture, overrides: [{common}]}}
  variants:
    small: {{set: lecture, overrides: [{common}, train.batch_size=150]}}
  grid: {{}}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=301, help="of each training (default 301)")
    parser.add_argument("--points", type=int, default=2, help="generators that an evaluation looks at over training (default 2)")
    arguments = parser.parse_args()
    common = f"train.steps={arguments.steps}, train.trajectory_points={arguments.points}"
    with tempfile.TemporaryDirectory(prefix="bench-study-") as folder:
        bench = Bench(Path(folder), STUDY.format(common=common))
        found = {
            "serial, no server": bench.serial(),
            "one worker": bench.fanned_out(1),
            "two workers": bench.fanned_out(2),
        }
    print("| | seconds | cells |\n| --- | --: | --: |")
    for name, (seconds, cells) in found.items():
        print(f"| {name} | {seconds:.0f} | {len(cells)} |")
    [(_, serial), *others] = found.values()
    different = {cell for _, cells in others for cell in serial.keys() | cells.keys() if serial.get(cell) != cells.get(cell)}
    print(f"\n{len(serial)} cells; other bytes than in the serial run: {', '.join(sorted(different)) or 'none'}")
    sys.exit(1 if different or len(serial) != 4 else 0)


class Bench:
    """Clones of this repository in `folder`, whose git and DVC remotes lie beside them, with the study of the text `study`."""

    def __init__(self, folder, study):
        self._folder, self._count = folder, 0
        self._origin, self._study = folder / "origin.git", study
        _run(ROOT, "git", "clone", "--quiet", "--bare", str(ROOT), str(self._origin))
        head = _run(ROOT, "git", "rev-parse", "HEAD")
        _run(self._origin, "git", "update-ref", "refs/heads/bench", head)
        _run(self._origin, "git", "symbolic-ref", "HEAD", "refs/heads/bench")
        for ref in _run(self._origin, "git", "for-each-ref", "--format=%(refname)", "refs/exps", "refs/tags").splitlines():
            _run(self._origin, "git", "update-ref", "-d", ref)
        cache = _run(ROOT, _program("dvc"), "cache", "dir")  # this tree's, which the user's settings may name
        leave_out_users_dvc(folder)
        first = self._clone(cache=cache)
        _run(first, _program("dvc"), "push", "--quiet", *BEFORE)

    def serial(self):
        """(seconds, Cell's name -> its outputs' hashes) of `gan study run` without a server, on one core."""
        place = self._clone()
        began = time.monotonic()
        _run(place, *_on(0, "-m", "commands", "study", "run", "bench"), environment=_environment(place, None))
        return time.monotonic() - began, _cells(place)

    def fanned_out(self, workers):
        """The same on so many workers, each on a core of its own; the server and the coordinator take what they need of both."""
        home = self._folder / f"server-{workers}"
        home.mkdir()
        origin = self._folder / f"origin-{workers}.git"
        shutil.copytree(self._origin, origin)
        places = [self._clone(origin=origin) for _ in range(workers + 1)]
        with prefect_server(home) as (url, _), contextlib.ExitStack() as stack:
            coordinator = places[-1]
            prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
            environment = _environment(coordinator, url)
            _run(coordinator, *prefect, "work-pool", "create", "pipeline", "--type", "process", environment=environment)
            _run(coordinator, *prefect, "deploy", "--name", "cells", environment=environment)
            for core, place in enumerate(places[:-1]):
                stack.enter_context(_worker(core, place, url))
            time.sleep(10)  # until they ask for work
            began = time.monotonic()
            _run(coordinator, sys.executable, "-m", "commands", "study", "run", "bench", "--workers", environment=environment)
            return time.monotonic() - began, _cells(coordinator)

    def _clone(self, origin=None, cache=None):
        self._count += 1
        place = self._folder / f"clone-{self._count}"
        _run(self._folder, "git", "clone", "--quiet", str(origin or self._origin), str(place))
        (place / "studies" / "bench.yaml").write_text(self._study)
        if cache:
            _run(place, _program("dvc"), "config", "--local", "cache.dir", str(Path(ROOT, cache)))
        _run(place, _program("dvc"), "remote", "add", "--quiet", "--local", "--default", "bench", str(self._folder / "store"))
        if not cache:
            _run(place, _program("dvc"), "pull", "--quiet", *BEFORE)
        return place


@contextlib.contextmanager
def _worker(core, place, url):
    """A Prefect worker in the clone `place` on one core, ended with the block."""
    options = ("--pool", "pipeline", "--limit", "1", "--name", place.name)
    with open(place.parent / f"{place.name}.log", "w") as output:
        worker = subprocess.Popen(
            _on(core, "-m", "prefect", "--no-prompt", "worker", "start", *options),
            cwd=place,
            env={**_environment(place, url), "PIPELINE_HOME": str(place)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        worker.terminate()
        try:
            worker.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _cells(place):
    """Name of each recorded cell -> the hashes of all that its stages made, with its metrics."""
    found = {}
    for line in _run(place, "git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines():
        ref, commit = line.split()
        stages = YAML(typ="safe").load(_run(place, "git", "show", f"{commit}:dvc.lock"))["stages"]
        found[ref.rpartition("/")[2]] = {
            out["path"]: out["md5"] for stage in ("train", "evaluate") for out in stages[stage]["outs"]
        }
    return found


def _on(core, *arguments):
    return ["taskset", "--cpu-list", str(core), sys.executable, *arguments]


def _environment(place, url):
    environment = prefect_environment(place.parent / "home")
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": "", "DVC_NO_ANALYTICS": "1"}
    return environment | ({"PREFECT_API_URL": url} if url else {})


def _program(name):
    return str(Path(sys.executable).with_name(name))


def _run(folder, *command, environment=None):
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} in {folder}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout.strip()


if __name__ == "__main__":
    run_as_command(main)
