"""A team of four hosts on network namespaces: what one worker has made the other restores, whatever dies meanwhile.

The flow, git, DVC over SSH, Prefect and PostgreSQL are real; the stages have no weight. `make many-machines` plays more, on the
real stages.
"""

import pytest

from tests.helpers.toy_project import wait_for
from tests.many_machines.__main__ import check_versions
from tests.many_machines.hosts import team, toy, why_not

SLOW = ("train.seed=3", "train.steps=200", "train.delay_seconds=0.05")


@pytest.mark.slow(seconds=150)
@pytest.mark.timeout(600)
@pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
def test_workers_share_results_and_survive_each_others_death():
    with team(toy, more=["third"]) as made:
        a, b = made.workers["a"], made.workers["b"]
        a.gan("deploy", "--silent-seconds", "90")
        looked = a.gan("doctor", check=False)
        bad = [line for line in looked.stdout.splitlines() if not line.startswith("ok ")]
        assert looked.returncode == 1 and bad == ["BAD workers: none is online in pipeline; start one with gan worker"]

        a.start()
        runs = [made.request("train.seed=1"), made.request("train.seed=2")]
        states = made.wait_for_end(runs, 120)
        assert [state["name"] for state in states] == ["Completed"] * 2
        a.stop()
        assert not a.processes()

        # a fresh clone with an empty cache, and not the newest version
        b.start()
        older = made.request("train.seed=1")
        [state] = made.wait_for_end([older], 60)
        assert "Ran" not in state["message"] and state["message"].count("Restored") >= 4, state
        assert "the same as run/" in made.log(older)

        # both at once on the same: one trains and dies, the other waits for it, and the first goes on when it is back
        a.start()
        pair = [made.request(*SLOW), made.request(*SLOW)]
        [dying] = wait_for(lambda: [run for run in pair if "step 20/200" in made.log(run)], 60, "training")
        owner = next(worker for worker in (a, b) if dying in worker.log())
        [waiting] = [run for run in pair if run != dying]
        wait_for(lambda: "makes the same" in made.log(waiting), 60, "the other one to wait")
        owner.lose_power()
        made.hosts["storage"].pull_cable()
        made.stop_server()
        made.start_server()
        made.hosts["storage"].plug_cable()
        owner.start()
        assert [state["name"] for state in made.wait_for_end([waiting], 120)] == ["Completed"]
        after = made.request(*SLOW)
        assert "Ran" not in made.wait_for_end([after], 60)[0]["message"]
        # nobody but the automation can know of the run whose machine lost power
        [state] = made.wait_for_end([dying], 200)
        assert state["type"] == "CRASHED" or "killed" in state["message"], state
        for worker in (a, b):
            worker.stop()
            assert not worker.processes()
        assert made.slots_held() == 0 and not made.claims()
        check_versions(made, 3, print)
