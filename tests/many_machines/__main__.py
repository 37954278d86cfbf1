"""Twenty runs of the small real pipeline on two workers, while what can break breaks: `make many-machines`, as root.

With `--toy` the stages have no weight and keep no checkpoints. Prints what it does and sees; ends with 0 if all is as it must be,
with 77 where there can be no such team on this machine.
"""

import argparse
import os
import signal
import sys
import time

from tests.helpers.toy_project import wait_for
from tests.many_machines.hosts import digests_by_lock, real_project, team, toy, why_not

_SHORT = (("train.seed=1",), ("train.seed=2",))
# it is to last long enough for a worker to be killed in it, and its log is read a few seconds late
_LONG = {
    False: ("train.seed=3", "train.steps=20001", "train.log_every_steps=100"),
    True: ("train.seed=3", "train.steps=400", "train.delay_seconds=0.05"),
}
_RUNS = 20
_SLOTS = 3  # one more than workers: a dead run holds one until it counts as dead
_CUT_SECONDS = 60


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.many_machines", description=__doc__.partition("\n")[0])
    parser.add_argument("--toy", action="store_true", help="stages without weight, which keep no checkpoints")
    light = parser.parse_args().toy
    if reason := why_not():
        print(f"not here: {reason}")
        sys.exit(77)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is taken down again
    with team(toy if light else real_project, more=["third"]) as made:
        _play(made, (*_SHORT, _LONG[light]), _say(), resumes=not light)


def _play(made, sets, say, *, resumes):
    a, b = made.workers["a"], made.workers["b"]
    a.gan("deploy", "--silent-seconds", "150")
    made.limit_requests(_SLOTS)
    say("server, storage and two workers are there")

    a.start()
    first, second = made.request(*sets[0]), made.request(*sets[1])
    states = made.wait_for_end([first, second], 900)
    assert [state["name"] for state in states] == ["Completed"] * 2, states
    made.change_deployment("a", parameters={"dry_run": True})
    a.stop()
    assert not a.processes(), a.processes()
    say("a has trained two sets")

    b.start()
    runs = [first, second, made.request(*sets[0])]
    [state] = made.wait_for_end(runs[2:], 300)
    assert state["name"] == "Completed" and "Ran" not in state["message"], state
    wait_for(lambda: "the same as" in made.log(runs[2]), 30, "the last lines of the log")
    say(f"b, whose cache was empty, has restored the older one: {state['message']}")

    a.start()
    runs += [made.request(*sets[2]) for _ in range(2)]
    taken = wait_for(lambda: [run for run in runs[3:] if "step 100/" in made.log(run)], 600, "training")
    owner = next(worker for worker in made.workers.values() if taken[0] in worker.log())
    other = b if owner is a else a
    assert made.slots_held() > 0
    owner.lose_power()
    say(f"{owner.host.name} has lost power in training; {other.host.name} waits for what it was making")
    starts = owner.log().count("started!")
    owner.start()
    wait_for(lambda: owner.log().count("started!") > starts, 180, "the worker that is back")
    runs += [made.request(*sets[number % 3]) for number in range(_RUNS - len(runs) - 4)]
    if resumes:
        wait_for(lambda: any("going on from step" in made.log(run) for run in runs[3:]), 900, "the resumed run", every_seconds=1)
        say("the killed run was resumed")

    made.hosts["storage"].pull_cable()
    say("the storage host is cut off")
    time.sleep(_CUT_SECONDS)
    made.hosts["storage"].plug_cable()
    say("and is back")
    made.stop_server()
    made.start_server()
    say("the server was stopped and started")
    runs += [made.request(*sets[number % 3]) for number in range(_RUNS - len(runs))]
    states = made.wait_for_end(runs, 1800)
    named = sorted(state["name"] for state in states)
    say(f"{len(runs)} runs have ended: {', '.join(f'{named.count(name)} {name}' for name in sorted(set(named)))}")
    for state in states:
        if state["name"] != "Completed":
            say(f"  {state['name']}: {state['message']}")
    # that one is dead the automation alone can know, or the next run on the same clone
    assert [run for run, state in zip(runs, states, strict=True) if state["type"] == "CRASHED"] == taken[:1]
    assert set(named) <= {"Completed", "Cached", "Worse", "Crashed", "NotPushed"}, named
    see_maintenance(made, a, say)
    for worker in (a, b):
        worker.stop()
        assert not worker.processes(), worker.processes()
    say("no process is left on either worker")
    assert made.slots_held() == 0 and not made.claims(), (made.slots_held(), made.claims())
    say("no slot and no claim is held")
    check_versions(made, len(sets), say)


def see_maintenance(made, worker, say):
    """See that the worker's maintenance starts by its schedule, first as the dry run that it was made before, then in earnest."""
    name = worker.host.name
    assert made.deployment(name)["parameters"] == {"dry_run": True}, "what was changed is kept when the worker starts again"
    old = worker.clone / ".scratch/train-old"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    made.change_schedule(name, schedule={"interval": 5})
    first = wait_for(lambda: made.completed_by_schedule(name), 180, "a dry maintenance", every_seconds=1)[0]
    assert "checkpoints: 1 would go: train-old" in first and old.exists(), first
    made.change_deployment(name, parameters={})
    done = wait_for(
        lambda: [text for text in made.completed_by_schedule(name) if "checkpoints: 1 gone" in text],
        180,
        "a real maintenance",
        every_seconds=1,
    )
    assert not old.exists()
    made.change_schedule(name, active=False)
    say(f"{name}'s maintenance has started by its schedule: {first}")
    say(f"and in earnest: {done[0]}")


def check_versions(made, count, say):
    """See that exactly `count` versions are on the storage host, and that each is given back on a third machine."""
    tags = made.git_at_storage("tag", "--list", "run/*").split()
    assert len(tags) == count, tags
    third = made.add_worker("third")
    locks = set()
    for tag in tags:
        third.run("git", "checkout", "--quiet", "--force", tag)
        third.run("dvc", "pull", "--quiet", "--force")
        wrong = digests_by_lock(third.clone)
        assert not wrong, (tag, wrong)
        assert third.run("dvc", "status").strip() == "Data and pipelines are up to date."
        locks.add((third.clone / "dvc.lock").read_bytes())
    assert len(locks) == count
    say(f"exactly {count} versions, each given back byte for byte on a third clone")


def _say():
    began = time.monotonic()
    return lambda line: print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)


if __name__ == "__main__":
    main()
