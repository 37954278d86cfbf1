"""The campaign `kills`: signals at random moments; every process ends, and the next run gives the bytes of an undisturbed one."""

import contextlib
import os
import random
import signal
import subprocess
import time

import httpx
import psutil
from hypothesis import strategies as st

from tests.helpers.toy_project import Runs, server_url
from tests.soak.case import Kind
from tests.soak.kills_project import (
    GRACE_SECONDS,
    LONGEST_SECONDS,
    Place,
    burn,
    fail_if,
    let_signals_through,
    shows_traceback,
    template,
)

COUNT = 200
END_SECONDS = GRACE_SECONDS + 10  # from the signal to the end of the command
_COMMANDS = {
    "repro": lambda stage: ["dvc", "repro"],
    "stage": lambda stage: ["python", "-m", f"stages.{stage}"],
    "flow": lambda stage: ["python", "-m", "commands", "flow"],
    "isolated": lambda stage: ["python", "-m", "commands", "flow", "--isolated"],
    "schedule": lambda stage: ["python", "-m", "commands", "schedule", "--interval-seconds", "5", "--name", "killed"],
}
# seconds on an idle machine: what goes before a stage, the stage, and what comes after it
_BEFORE = {"repro": 1.5, "stage": 0.0, "flow": 6.0, "isolated": 9.0, "schedule": 12.0}
_STAGE = {"fetch": 0.4, "normalize": 0.7, "judge": 9.0, "train": 7.0, "evaluate": 7.0, "gallery": 1.5, "report": 2.0}
_AFTER = {"repro": 0.5, "stage": 0.3, "flow": 2.0, "isolated": 3.0, "schedule": 3.0}
# of the stages in cases: more of those that take seconds without TensorFlow, so that there is time for more moments
_WEIGHTS = {"fetch": 2, "normalize": 3, "judge": 1, "train": 2, "evaluate": 1, "gallery": 1, "report": 4}
_slowness = 3.0  # of this machine now, against those seconds; measured anew at every case


def make_case(seed, command):
    """The case of a random number, as a dict."""
    dice = random.Random(f"{command} {seed}")
    phases = ["start", "anywhere", "anywhere", "anywhere", "end", "end"]
    return {
        "command": command,
        "stage": dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0],
        "outs_there": dice.random() < 0.5,
        "signal": dice.choice(["SIGTERM", "SIGINT", "SIGKILL"]),
        "target": dice.choice(["process", "process", "group", "group", "child"]),
        "child": dice.randrange(100),
        "phase": dice.choice(phases),
        "moment": round(dice.random(), 4),
    }


def run(case, folder):
    """Kill one command and look what became of it."""
    found, place = [], None
    for attempt in range(4):
        place = Place(
            folder / str(attempt),
            until=case.get("until"),
            missing=[case["stage"]],
            keep_outs=case["outs_there"],
            api_url=server_url() if case["command"] == "schedule" else None,
        )
        process = place.start(*_words(case["command"], case))
        if _wait_for_the_moment(case, place, process, 0.6**attempt):
            break
        place.end_all()
    try:
        found += _kill(case, place, process)
        found += [("orphan", line) for line in place.orphans()]  # which may still tell the server of their end
    finally:
        if case["command"] == "schedule":
            _forget_deployments()
    if shows_traceback(case["command"], place.log()):
        found.append(("traceback", "in the output"))
    code, seconds = _complete(case, place)
    if code != 0:
        found.append(("differs", f"the next run ended with {code}"))
    else:
        found += place.wrong(isolated=_isolated(case), by_dvc_alone=_next(case) == "repro")
    _learn(case, seconds)
    fail_if(found, place.log(), place.log("next"))


def _forget_deployments():
    """Delete what the server would start again; on a busy machine its database is now and then too busy to."""
    for patience in range(20):
        with contextlib.suppress(httpx.HTTPError):
            return Runs(server_url()).delete_deployments()
        time.sleep(patience)
    raise TimeoutError("the server deletes no deployment")


def _wait_for_the_moment(case, place, process, share):
    """Whether the moment came before the command's end."""
    command, stage, slowness = case["command"], case["stage"], _slowness
    if case["phase"] == "start":
        return _still_runs(process, case["moment"] * 1.5 * slowness * share)
    if case["phase"] == "anywhere":
        whole = _BEFORE[command] + _STAGE[stage] + _AFTER[command]
        return _still_runs(process, case["moment"] * whole * slowness * share)
    end = time.monotonic() + LONGEST_SECONDS
    while not _stage_is_done(case, place):
        if process.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.02)
    return _still_runs(process, case["moment"] * (_AFTER[command] * slowness) * share)


def _still_runs(process, seconds):
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _stage_is_done(case, place):
    """Whether the stage has written its last output, as far as this can be seen from outside."""
    if case["command"] == "stage":
        last = place.outs(case["stage"])[-1]
        return last.exists() and last.stat().st_mtime > place.folder.stat().st_ctime
    if case["command"] == "repro":
        return "Updating lock file" in place.log() or "Use `dvc push`" in place.log()
    return f"'{case['stage']}' - Finished in state" in place.log() or f"{case['stage']}: Ran" in place.log()


def _kill(case, place, process):
    """Send the signal and wait for the end; what was wrong, as (fault, what) pairs."""
    number = signal.Signals[case["signal"]]
    sent = time.monotonic()
    try:
        if case["target"] == "group":
            os.killpg(process.pid, number)
        elif case["target"] == "process":
            process.send_signal(number)
        else:
            children = sorted(psutil.Process(process.pid).children(recursive=True), key=lambda child: child.pid)
            if children:
                children[case["child"] % len(children)].send_signal(number)
            else:
                process.send_signal(number)
    except (psutil.NoSuchProcess, ProcessLookupError):
        pass
    if case["target"] == "child":
        if case["command"] == "schedule":
            time.sleep(2)
            process.terminate()
            limit = END_SECONDS
        else:
            limit = LONGEST_SECONDS / 2  # the command may go on without that child
    elif case["command"] == "repro" and case["target"] == "process" and case["signal"] == "SIGINT":
        limit = LONGEST_SECONDS / 2  # DVC leaves SIGINT to its stage, as a terminal sends it to both
    else:
        limit = END_SECONDS
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        return [("hang", f"still there {time.monotonic() - sent:.0f} s after the signal: {_tree(process.pid)}")]
    return []


def _tree(pid):
    try:
        process = psutil.Process(pid)
        return " | ".join(" ".join(item.cmdline())[-60:] for item in (process, *process.children(recursive=True)))
    except psutil.Error:
        return "?"


def _isolated(case):
    return case["command"] in ("isolated", "schedule")


def _next(case):
    """The command that somebody gives next: the same again, where that brings everything up to date."""
    return {"repro": "repro", "stage": "repro", "flow": "flow"}.get(case["command"], "isolated")


def _words(command, case):
    """A command line, which goes no further than the case's `until`."""
    until, words = case.get("until"), _COMMANDS[command](case["stage"])
    if until and command in ("repro", "flow"):
        words += [until] if command == "repro" else ["--stage", until]
    return words


def _complete(case, place):
    """Bring the pipeline up to date: (exit code, seconds)."""
    start = time.monotonic()
    code = place.run_next(*_words(_next(case), case), by_dvc_alone=case["command"] == "repro")
    return code, time.monotonic() - start


def _learn(case, seconds):
    global _slowness
    command = _next(case)
    now = seconds / (_BEFORE[command] + _STAGE[case["stage"]] + _AFTER[command])
    _slowness = 0.5 * _slowness + 0.5 * min(max(now, 0.5), 10.0)


def warm_up():
    """Make the repository that cases start from, and the machine busy."""
    let_signals_through()
    template()
    burn()


def warm_up_with_server():
    """The same, with a Prefect server."""
    warm_up()
    server_url()


def _kind(command, share, warm_up=warm_up):
    return Kind(
        cases=st.integers(0, 2**40).map(lambda seed: make_case(seed, command)),
        run=run,
        warm_up=warm_up,
        group="programs",
        spawns=True,
        share=share,
        seconds=1200,
        warm_up_seconds=900,
        limit_bytes=8_000_000_000,
        smallest=False,
    )


KINDS = {
    "repro": _kind("repro", 60),
    "stage": _kind("stage", 40),
    "flow": _kind("flow", 40),
    "isolated": _kind("isolated", 35),
    "schedule": _kind("schedule", 25, warm_up_with_server),
}
