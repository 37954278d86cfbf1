"""Scheduled runs that are due at once, as after an outage: the newest does the work, and the others are skipped."""

import datetime

from prefect import get_client, runtime
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Completed

_MOST = 200  # that one question to the server brings


def give_way_to_newer():
    """Skip the runs of this run's schedule that are due; the name of the newest where it is newer than this run, else None."""
    if runtime.deployment.id is None:
        return None
    with get_client(sync_client=True) as client:
        own = client.read_flow_run(runtime.flow_run.id)
        if not own.auto_scheduled:
            return None
        due = FlowRunFilter.model_validate(
            {
                "deployment_id": {"any_": [runtime.deployment.id]},
                "state": {"type": {"any_": [StateType.SCHEDULED]}},
                "expected_start_time": {"before_": datetime.datetime.now(datetime.UTC)},
            }
        )
        found = client.read_flow_runs(flow_run_filter=due, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=_MOST)
        others = [run for run in found if run.auto_scheduled and run.id != own.id]
        newer = [run for run in others if run.expected_start_time > own.expected_start_time]
        for run in others:
            if run not in newer[:1]:
                client.set_flow_run_state(run.id, Completed(name="Skipped", message="skipped: a newer run was due"), force=True)
    return newer[0].name if newer else None
