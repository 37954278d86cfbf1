"""This clone as a worker of a Prefect server: it takes runs from queues of a work pool, one at a time."""

import asyncio
import contextlib
import os
import signal
import sys

import httpx

from flows.operations.child import run_to_end
from flows.operations.deployment import HEARTBEAT_SECONDS
from gan.errors import UserError

_IN_FOLDER = "prefect.deployments.steps.set_working_directory"
_MAINTENANCE = "30 4 * * 0"  # Sundays, when the nightly run is over


def run_worker(repository, *, pool, queues, name, stop_seconds):
    """Run Prefect's process worker to its end; its exit code. Raises UserError where the pool has no such queue.

    stop_seconds: what it gets to end in order, with its run.
    """
    _require_queues(pool, queues)
    try:
        own = asyncio.run(_plan_maintenance(repository, pool, name))
    except httpx.HTTPError as error:
        raise UserError(f"the Prefect server went out of reach ({error}); start again") from None
    wanted = {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    chosen = [word for queue in (*queues, own) for word in ("--work-queue", queue)]
    command = ["-m", "prefect", "--no-prompt", "worker", "start", "--type", "process", "--pool", pool, "--name", name, *chosen]
    environment = {**wanted, **os.environ, "PIPELINE_HOME": str(repository.root)}
    # Prefect's worker can hang in its end where it is asked to end in the moment in which a run does
    whole = [sys.executable, *command, "--limit", "1"]
    return run_to_end(whole, environment, asked_by=signal.SIGTERM, stop_seconds=stop_seconds)


def _require_queues(pool, queues):
    from flows.operations.checks import connected

    with connected() as server:
        found = server.post(f"work_pools/{pool}/queues/filter", {})
    if found is None:
        raise UserError(f"the server has no work pool {pool}; gan deploy makes it")
    names = [queue["name"] for queue in found]
    for queue in queues:
        if queue not in names:
            raise UserError(f"the pool {pool} has no queue {queue}; it has {', '.join(names)}")


async def _plan_maintenance(repository, pool, name):
    """Let the server plan this machine's maintenance; the name of the queue that only this worker takes from.

    What somebody has changed of an earlier plan stays: its parameters, its schedule, and whether it is paused. Raises UserError
    where that is another clone's, which would be maintained no more.
    """
    from prefect import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.utilities.callables import parameter_schema

    from flows.operations.maintenance import maintenance

    queue = f"machine-{name}"
    schema = parameter_schema(maintenance)
    parameters, paused = {}, False
    schedules = [DeploymentScheduleCreate(schedule=CronSchedule(cron=_MAINTENANCE, timezone="UTC"))]
    async with get_client() as client:
        with contextlib.suppress(ObjectNotFound):
            earlier = await client.read_deployment_by_name(f"{maintenance.name}/{name}")
            _require_own(name, earlier, repository)
            parameters = {key: value for key, value in earlier.parameters.items() if key in schema.properties}
            kept = set(DeploymentScheduleCreate.model_fields)
            schedules = [DeploymentScheduleCreate(**one.model_dump(include=kept)) for one in earlier.schedules]
            paused = earlier.paused
        with contextlib.suppress(ObjectAlreadyExists):
            await client.create_work_queue(name=queue, work_pool_name=pool)
        await client.create_deployment(  # or renew it
            flow_id=await client.create_flow(maintenance),
            name=name,
            entrypoint="flows/operations/maintenance.py:maintenance",
            pull_steps=[{_IN_FOLDER: {"directory": str(repository.root)}}],
            work_pool_name=pool,
            work_queue_name=queue,
            schedules=schedules,
            parameters=parameters,
            paused=paused,
            parameter_openapi_schema=schema.model_dump_for_openapi(),
        )
    return queue


def _require_own(name, deployment, repository):
    for step in deployment.pull_steps or ():
        folder = step.get(_IN_FOLDER, {}).get("directory", str(repository.root))
        if folder != str(repository.root) and os.path.exists(f"{folder}/.git"):  # and not just on another host
            raise UserError(f"the worker in {folder} has the name {name}; give this one another with --name")
