"""A study on workers: the toy project, clones of it with a Prefect worker each, one git and one DVC remote, and who counts."""

import contextlib
import json
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

from ruamel.yaml import YAML

from tests.helpers.toy_project import SOURCE, Project, ask_server, make_project, wait_for

POOL = ("--pool", "pipeline")
NAME = "steps"
# Python gives its first handlers back to a process that ends, and a signal would end it with an error after all. So this stub is
# deaf once it gives its checkpoint away: whatever is lost then, flows have lost.
ENDED = """\
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    scratch.unlink(missing_ok=True)
    open(os.environ["TRAINED"], "a").write(f"{section['seed']} {step}\\n")
"""


class Fleet:
    """A study of `cells` cells, half of them of each of two variants, and `workers` clones that can work at it.

    folder: where all of it lies. url: of the Prefect server.
    """

    def __init__(self, folder, url, *, cells, workers=2, steps=10, delay_seconds=0.1):
        self.folder, self.url, self.cells, self.steps = Path(folder), url, cells, steps
        self.project = make_project(folder, ran=True, api_url=url)
        self.trained_file = self.folder / "trained"
        self.trained_file.touch()
        self.store = self.folder / "store"
        self._write(cells // 2, delay_seconds)
        self.project.run("git", "clone", "--quiet", "--bare", str(self.project.root), str(self.folder / "origin.git"))
        self.project.git("remote", "add", "origin", str(self.folder / "origin.git"))
        prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
        self.project.run(*prefect, "work-pool", "create", POOL[1], "--type", "process", "--overwrite")
        self.project.run(*prefect, "deploy", "--name", "cells")
        self.places = [self.clone(f"worker-{number}") for number in range(workers)]
        self._running, self._starts, self._coordinators = {}, 0, []

    def clone(self, name):
        """A clone as on another machine: with a DVC cache of its own."""
        place = Project(self.folder / name, self.url)
        self.project.run("git", "clone", "--quiet", str(self.folder / "origin.git"), str(place.root))
        place.control.mkdir()
        own = {"PIPELINE_HOME": str(place.root), "PREFECT_HOME": self.project.environment["PREFECT_HOME"]}
        place.environment |= own | {"TRAINED": str(self.trained_file)}
        return place

    def start_worker(self, number):
        """Start the worker in the clone of this number."""
        place = self.places[number]
        options = ("--no-prompt", "worker", "start", *POOL, "--limit", "1", "--name", place.root.name)
        self._starts += 1
        self._running[number] = place.start(*options, program=("prefect",), log=f"worker-{self._starts}.log")

    def kill_worker(self, number):
        """SIGKILL, as the kernel sends it where memory ends; its runs lose their parent."""
        process = self._running.pop(number)
        process.kill()
        process.wait()

    @contextlib.contextmanager
    def trainings_held(self):
        """No training of a worker ends in the block."""
        files = [place.control / "hold-train" for place in self.places]
        for file in files:
            file.touch()
        try:
            yield
        finally:
            for file in files:
                file.unlink()

    def coordinate(self, log):
        """Start the coordinator, whose output goes to the file `log` of the project's."""
        process = self.project.start("run", NAME, "--workers", program=("commands", "study"), log=log, group=True)
        self._coordinators.append(process)
        return process

    def close(self):
        """End coordinators and workers, and wait for what they have started."""
        for process in self._coordinators:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for number in list(self._running):
            self.kill_worker(number)
        wait_for(lambda: not [line for place in self.places for line in place.processes()], 60, "the workers' processes")

    def records(self):
        """Name of a cell -> commit of its record on the git remote."""
        lines = self.project.git("ls-remote", "origin", "refs/exps/*").splitlines()
        found = [(ref.rpartition("/")[2].rpartition("-")[0], commit) for commit, ref in (line.split("\t") for line in lines)]
        assert len(found) == len(dict(found)), found
        return dict(found)

    def trained(self):
        """(seed, steps) -> how often a training of it came to its end, wherever it was."""
        return Counter(tuple(map(int, line.split())) for line in self.trained_file.read_text().splitlines())

    def trained_again(self):
        """What a training was made of that came to its end more than once."""
        return [key for key, times in self.trained().items() if times > 1]

    def runs(self):
        """All flow runs of the server, the cells' and the coordinators'."""
        found, more = [], [None]
        while more:
            body = {"sort": "START_TIME_ASC", "limit": 200, "offset": len(found)}
            more = ask_server("POST", f"{self.url}/flow_runs/filter", json=body).json()
            found += more
        return found

    def wrong(self):
        """What is not as it must be after the study, one line each."""
        records, found = self.records(), []
        expected = {
            f"{NAME}-{variant}-s{seed}": (seed, self.steps + more)
            for variant, more in (("baseline", 0), ("longer", 1))
            for seed in range(1, 1 + self.cells // 2)
        }
        found += [f"{name}: no record" for name in expected.keys() - records.keys()]
        found += [f"{name}: a record of nothing" for name in records.keys() - expected.keys()]
        for name in expected.keys() & records.keys():
            seed, steps = expected[name]
            # as toy.py computes it
            metrics = json.dumps({"fid": 10 + 0.0 + (seed % 7) / 10, "fid_std": 0.5, "nested": {"steps": steps}}) + "\n"
            if self._at(records[name], "data/evaluation/metrics.json") != metrics:
                found.append(f"{name}: other metrics")
            if self._model(records[name]) != f"{seed} {steps}":
                found.append(f"{name}: another model on DVC's remote")
        found += [f"{key}: never trained" for key in set(expected.values()) - set(self.trained())]
        return found

    def _write(self, seeds, delay_seconds):
        root = self.project.root
        shutil.copy(SOURCE / "prefect.yaml", root)
        for name in ("flows", "gan"):
            shutil.copytree(SOURCE / name, root / name)
        toy = (root / "toy.py").read_text()
        end = "    scratch.unlink(missing_ok=True)\n"
        assert toy.count(end) == 1
        (root / "toy.py").write_text(toy.replace(end, ENDED))
        (root / "studies").mkdir()
        (root / f"studies/{NAME}.yaml").write_text(self._study(seeds, delay_seconds))
        self.project.environment["TRAINED"] = os.devnull
        self.project.run("dvc", "remote", "add", "--quiet", "--default", "store", str(self.store))
        self.project.run("dvc", "repro", "--quiet")
        self.project.run("dvc", "push", "--quiet")
        self.project.commit("Ask")

    def _study(self, seeds, delay_seconds):
        common = f"train.delay_seconds={delay_seconds}"
        return f"""\
study:
  question: Do more steps help?
  stage: evaluate
  metrics:
    fid: {{better: lower, smallest_difference: 1.0}}
  seeds: {{parameter: train.seed, first: 1, count: {seeds}, most: {seeds}}}
  paired: false
  baseline: {{set: null, overrides: [{common}, train.steps={self.steps}]}}
  variants:
    longer: {{set: null, overrides: [{common}, train.steps={self.steps + 1}]}}
  grid: {{}}
"""

    def _at(self, commit, path):
        return self.project.run("git", "--git-dir", str(self.folder / "origin.git"), "show", f"{commit}:{path}").stdout

    def _model(self, commit):
        """The text of a cell's model as DVC's remote has it."""
        lock = YAML(typ="safe").load(self._at(commit, "dvc.lock"))
        [folder] = [out["md5"] for out in lock["stages"]["train"]["outs"]]
        [weights] = [item["md5"] for item in json.loads(self._object(folder)) if item["relpath"] == "weights.txt"]
        return self._object(weights).decode()

    def _object(self, name):
        return (self.store / "files/md5" / name[:2] / name[2:]).read_bytes()
