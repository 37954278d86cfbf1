"""This clone as a worker of a Prefect server: it takes runs from queues of a work pool, one at a time."""

import os
import sys

from flows.operations.deployment import HEARTBEAT_SECONDS
from gan.errors import UserError


def run_worker(repository, *, pool, queues, name):
    """Become Prefect's process worker; raises UserError where the pool has no such queue."""
    _require_queues(pool, queues)
    wanted = {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    chosen = [word for queue in queues for word in ("--work-queue", queue)]
    command = ["-m", "prefect", "--no-prompt", "worker", "start", "--type", "process", "--pool", pool, "--name", name, *chosen]
    environment = {**wanted, **os.environ, "PIPELINE_HOME": str(repository.root)}
    os.execve(sys.executable, [sys.executable, *command, "--limit", "1"], environment)  # noqa: S606 (no shell is wanted)


def _require_queues(pool, queues):
    from flows.operations.checks import Server

    found = Server().post(f"work_pools/{pool}/queues/filter", {})
    if found is None:
        raise UserError(f"the server has no work pool {pool}; gan deploy makes it")
    names = [queue["name"] for queue in found]
    for queue in queues:
        if queue not in names:
            raise UserError(f"the pool {pool} has no queue {queue}; it has {', '.join(names)}")
