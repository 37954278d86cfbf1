"""Where the time of `dvc repro` goes: a run from scratch stage by stage, a run with nothing to do, and the same through Prefect;
with --share also what it costs to share results over SSH (`benchmarks/sharing.py`).

Works on a copy of the working tree in a temporary folder with an empty DVC cache; nothing of the tree itself is touched. MNIST
comes from where the fetch stage finds it; MNIST_SOURCE names a folder or archive at hand. Prints Markdown:

- wall: from one stage's start to the next one's, as DVC's output shows it
- process: of that, the stage's own process; the rest is DVC (hashing, caching, its lock files)
- imports: of that, import statements, the greater part of the time up to useful work
- training: of the train stage, its loop, as the stage itself measures it
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import sharing  # noqa: E402 (run as a file, it must find its neighbours first)
from benchmarks.command import child, leave_out_users_dvc, run_as_command  # noqa: E402
from benchmarks.server import prefect_environment, prefect_server  # noqa: E402
from gan.errors import UserError  # noqa: E402

RUNNING = re.compile(r"^Running stage '(?P<name>[^']+)'")
# Stands before the real interpreter on PATH: notes when each stage's process begins and ends.
SHIM = """#!/bin/sh
log=$(mktemp "$BENCH_FOLDER/log/XXXXXXXX")
began=$(date +%s.%N)
BENCH_IMPORTS="$log" PYTHONPATH="$BENCH_FOLDER/hook${PYTHONPATH:+:$PYTHONPATH}" "$BENCH_PYTHON" "$@"
code=$?
echo "process $* $began $(date +%s.%N)" >>"$log"
exit $code
"""
# Python imports it by itself at its start: adds up what the process spends in import statements. (-X importtime would write to
# stderr, which the stages hold back while TensorFlow starts.)
HOOK = """
import atexit, builtins, os, threading, time

path, original, depth, total = os.environ.pop("BENCH_IMPORTS", None), builtins.__import__, 0, 0.0


def timed(*arguments, **options):
    global depth, total
    if depth or threading.current_thread() is not threading.main_thread():
        return original(*arguments, **options)
    depth, began = 1, time.perf_counter()
    try:
        return original(*arguments, **options)
    finally:
        depth, total = 0, total + time.perf_counter() - began


def note():
    with open(path, "a") as log:
        log.write(f"imports {total}\\n")


if path:
    builtins.__import__ = timed
    atexit.register(note)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="runs with nothing to do, of which the median counts (default 5)")
    parser.add_argument("--flow", action="store_true", help="time a Prefect flow with nothing to do as well")
    parser.add_argument("--share", action="store_true", help="measure what a git and a DVC remote over SSH cost as well")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder and print where it is")
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    if arguments.share and (reason := sharing.why_not()):
        parser.error(f"--share: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="bench-pipeline-"))
    try:
        leave_out_users_dvc(folder)
        tree = copy_of_working_tree(folder / "tree")
        environment = stage_environment(folder)
        log("from scratch")
        stages, total = run_from_scratch(tree, environment, folder)
        train_seconds = training_seconds(tree)
        print(stage_table(stages, total, train_seconds))
        log("nothing to do")
        idle = {"`dvc repro`": times([beside_python("dvc"), "repro"], tree, arguments.repeats)}
        if arguments.flow:
            flow = [sys.executable, "-m", "commands", "flow"]
            with prefect_server(folder / "prefect") as (url, _):
                idle["`gan flow`, a server running"] = times(flow, tree, arguments.repeats, PREFECT_API_URL=url)
            idle["`gan flow`, embedded server"] = times(flow, tree, arguments.repeats)
        print(idle_table(idle))
        if arguments.share:
            print(f"\n{sharing.table(sharing_costs(tree, folder, arguments.repeats))}")
    except TimeoutError as error:
        sys.exit(f"benchmarks/pipeline.py: {error}")
    finally:
        if arguments.keep:
            log(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def copy_of_working_tree(tree):
    """Copy what git would see of this tree, uncommitted edits included, into a repository of its own without results or cache."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    for name in filter(None, names.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-qm", "copy"],
    ):
        subprocess.run(["git", *command], cwd=tree, check=True)
    if not (tree / ".dvc").exists():
        subprocess.run([beside_python("dvc"), "init", "-q"], cwd=tree, check=True)
    return tree


def beside_python(name):
    """The path of the program `name` in this interpreter's environment."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        sys.exit(f"{path} is missing; run this with the environment's python (.venv/bin/python)")
    return str(path)


def stage_environment(folder):
    """The environment in which `python` is the shim."""
    for name in ("bin", "hook", "log", "prefect"):
        (folder / name).mkdir()
    (folder / "hook/sitecustomize.py").write_text(HOOK)
    (folder / "bin/python").write_text(SHIM)
    (folder / "bin/python").chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "BENCH_FOLDER": str(folder), "BENCH_PYTHON": sys.executable, "DVC_NO_ANALYTICS": "1"}


def run_from_scratch(tree, environment, folder):
    """Run everything: ({stage: {"wall", "process", "imports"}} in seconds, total seconds)."""
    began = time.time()
    options = {"cwd": tree, "env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    starts, lines = [], []
    with child([beside_python("dvc"), "repro"], **options) as process:
        for line in process.stdout:
            lines.append(line)
            if match := RUNNING.match(line):
                starts.append((match["name"], time.time()))
                log(f"  {match['name']}")
        ended = time.time()
        if process.wait():
            sys.exit("".join(lines[-20:]) + "dvc repro failed; its output stands above")
    if not starts:
        raise UserError("dvc repro ran no stage, so there is nothing to time")
    stages = {"(DVC before the first stage)": {"wall": starts[0][1] - began, "process": 0.0, "imports": 0.0}}
    ends = [start for _, start in starts[1:]] + [ended]
    for (name, start), end in zip(starts, ends, strict=True):
        stages[name] = {"wall": end - start, "process": 0.0, "imports": 0.0}
    for path in (folder / "log").iterdir():
        process_began, seconds, imports = parse_log(path.read_text())
        name = [name for name, start in starts if start <= process_began + 0.5][-1]
        stages[name]["process"] += seconds
        stages[name]["imports"] += imports
    return stages, ended - began


def parse_log(text):
    """What shim and hook wrote of one process: (when it began, its seconds, seconds of imports)."""
    imports = sum(map(float, re.findall(r"^imports (\S+)$", text, re.MULTILINE)))
    began, ended = map(float, re.search(r"^process .* (\S+) (\S+)$", text, re.MULTILINE).groups())
    return began, ended - began, imports


def training_seconds(tree):
    """Seconds of the training loop, as the train stage noted them; None without such a note."""
    path = tree / "data/timings/train.json"
    return json.loads(path.read_text())["train_seconds"] if path.exists() else None


def times(command, tree, repeats, **variables):
    """Seconds of `repeats` runs of `command` in `tree`, after one that does not count, with further environment `variables`."""
    environment = {**prefect_environment(tree.parent / "prefect"), "DVC_NO_ANALYTICS": "1", **variables}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    seconds = []
    for _ in range(repeats + 1):
        began = time.monotonic()
        options = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with child(command, cwd=tree, env=environment, **options) as process:
            output, _ = process.communicate()
        if process.returncode:
            sys.exit(f"{output[-4000:]}\n{' '.join(command)} failed; its output stands above")
        seconds.append(time.monotonic() - began)
    return seconds[1:]


def sharing_costs(tree, folder, repeats):
    """The sharing.Costs of runs of `tree`, with a Prefect server."""
    log("sharing")
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    subprocess.run(["git", "add", "--all"], cwd=tree, check=True)
    subprocess.run(["git", *identity, "commit", "--quiet", "-m", "results"], cwd=tree, check=True)
    (folder / "server").mkdir()
    with prefect_server(folder / "server") as (url, _):
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "PREFECT_API_URL": url}
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return sharing.measure(tree, folder, environment, repeats)


def stage_table(stages, total, train_seconds):
    """Markdown: a row a stage with its seconds and where they went."""
    lines = [
        f"From scratch: {total:.1f} s in all.",
        "",
        "| stage | wall | process | DVC around it | imports | rest of the process |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in stages.items():
        parts = (row["wall"], row["process"], row["wall"] - row["process"], row["imports"], row["process"] - row["imports"])
        lines.append(f"| {name} | " + " | ".join(f"{seconds:.1f} s" for seconds in parts) + " |")
    sums = [sum(row[part] for row in stages.values()) for part in ("wall", "process", "imports")]
    parts = (sums[0], sums[1], sums[0] - sums[1], sums[2], sums[1] - sums[2])
    lines.append("| all | " + " | ".join(f"{seconds:.1f} s" for seconds in parts) + " |")
    if train_seconds is not None:
        lines += ["", f"Training steps: {train_seconds:.1f} s, {train_seconds / total:.0%} of all."]
    return "\n".join([*lines, ""])


def idle_table(idle):
    """Markdown: a row a command with nothing to do, from its seconds in each run."""
    lines = ["| nothing to do | median | lowest-highest |", "| --- | --- | --- |"]
    for command, seconds in idle.items():
        lines.append(f"| {command} | {statistics.median(seconds):.1f} s | {min(seconds):.1f}-{max(seconds):.1f} s |")
    return "\n".join(lines)


def log(message):
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_as_command(main)
