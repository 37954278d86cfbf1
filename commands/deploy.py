"""`gan deploy`: the pipeline on a Prefect server, with all that looks after it."""

import os
from pathlib import Path

import click

from flows.git import Repository
from flows.schedule import require_server


@click.command()
@click.option("--pool", default="pipeline", show_default=True, help="The work pool, in place of prefect.yaml's.")
@click.option(
    "--silent-seconds",
    type=click.IntRange(min=90),
    default=300,  # longer than it takes to start the server anew
    show_default=True,
    help="A run not heard of for so long is dead.",
)
@click.option(
    "--webhook", metavar="URL", help="Gets JSON with subject and body when a run went wrong, and when one is good again."
)
@click.option("--mail", metavar="URL", help="Gets the same: mailto://USER:PASSWORD@HOST?from=ADDRESS&to=ADDRESS")
def deploy(pool, silent_seconds, webhook, mail):
    """Put the pipeline on the Prefect server: work pool, queues, the deployments of prefect.yaml, automations.

    Run it again after any change; it renews what is there.
    """
    repository = Repository.around(Path.cwd())
    os.chdir(repository.root)
    require_server()
    from flows.operations.deployment import install

    for line in install(repository, pool=pool, silent_seconds=silent_seconds, webhook=webhook, mail=mail):
        click.echo(line)
