"""Scheduled runs that are due at once, as after an outage: the first to start does the work of all; the others are skipped.

A deployment may have several schedules. Runs of the same parameters are the same work, whichever schedule they are of.
"""

import datetime

from prefect import get_client, runtime
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Completed

from flows.parent import MOST_AT_ONCE


def take_over_what_is_due():
    """Skip what else is due of this run's deployment with its parameters; the time for which it works, the latest of all.

    The first to start and not the newest: else a schedule shorter than a run's start would skip for ever.
    """
    when = runtime.flow_run.scheduled_start_time
    if runtime.deployment.id is None:
        return when
    with get_client(sync_client=True) as client:
        own = client.read_flow_run(runtime.flow_run.id)
        if not own.auto_scheduled:
            return when
        due = FlowRunFilter.model_validate(
            {
                "deployment_id": {"any_": [runtime.deployment.id]},
                "state": {"type": {"any_": [StateType.SCHEDULED]}},
                "expected_start_time": {"before_": datetime.datetime.now(datetime.UTC)},
            }
        )
        found = client.read_flow_runs(flow_run_filter=due, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=MOST_AT_ONCE)
        others = [run for run in found if run.auto_scheduled and run.id != own.id and run.parameters == own.parameters]
        for run in others:
            skipped = Completed(name="Skipped", message=f"skipped: {own.name} was due as well and does the work")
            client.set_flow_run_state(run.id, skipped, force=True)
    return max([when, *(run.expected_start_time for run in others)])
