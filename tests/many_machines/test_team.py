"""A team of hosts on network namespaces: what one worker has made the other restores.

The flow, git, DVC over SSH, Prefect and PostgreSQL are real; the stages have no weight. `make many-machines` plays more, on the
real stages: machines that lose power, storage that is cut off, a server that is restarted.
"""

import pytest

from tests.helpers.toy_project import wait_for
from tests.many_machines.__main__ import check_versions
from tests.many_machines.hosts import team, toy, why_not


@pytest.mark.slow(seconds=100)
@pytest.mark.timeout(600)
@pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
def test_a_fresh_worker_restores_what_another_has_made():
    with team(toy, more=["third"]) as made:
        a, b = made.workers["a"], made.workers["b"]
        a.gan("deploy", "--silent-seconds", "90")
        looked = a.gan("doctor", check=False)
        bad = [line for line in looked.stdout.splitlines() if not line.startswith("ok ")]
        assert looked.returncode == 1 and bad == ["BAD workers: none is online in pipeline; start one with gan worker"]

        a.start()
        runs = [made.request("train.seed=1"), made.request("train.seed=2")]
        states = made.wait_for_end(runs, 300)
        assert [state["name"] for state in states] == ["Completed"] * 2
        a.stop()
        assert not a.processes()

        # a fresh clone with an empty cache, and not the newest version
        b.start()
        older = made.request("train.seed=1")
        [state] = made.wait_for_end([older], 180)
        assert "Ran" not in state["message"] and state["message"].count("Restored") >= 4, state
        wait_for(lambda: "the same as run/" in made.log(older), 30, "the last lines of the log")  # they follow the state

        b.stop()
        assert not b.processes() and made.slots_held() == 0 and not made.claims()
        check_versions(made, 2, print)
