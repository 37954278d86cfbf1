"""`gan worker`: this clone takes runs from the Prefect server."""

import os
import shlex
import socket
import sys
from pathlib import Path

import click

from flows.git import Repository
from flows.parent import import_prefect
from flows.request import Parameters
from gan.errors import UserError

_NO_NAME = set("/%&<>")  # has a deployment on the server, and each worker is one for its maintenance
_END_SECONDS = 30  # for the rest, after the stage in progress has saved


@click.command()
@click.option("--pool", default="pipeline", show_default=True, help="The work pool.")
@click.option("--queue", "queues", multiple=True, default=["cpu"], show_default=True, help="cpu or gpu; repeatable.")
@click.option("--name", default=socket.gethostname, show_default="the host's", help="Of the worker; each clone has its own.")
@click.option("--fetch/--no-fetch", default=True, show_default=True, help="Take up the newest commit of this branch first.")
@click.pass_context
def worker(context, pool, queues, name, fetch):
    """Take runs from the server's work pool until Ctrl-C.

    On a new machine: `git clone URL && cd … && make worker`. It takes up the newest commit, makes the environment if the lock has
    changed, and looks at server, clock, remotes and disk before it takes work; what is missing is one line each.
    """
    if not name or set(name) & _NO_NAME:
        raise UserError(f"--name {name!r}: expected a name without {' '.join(sorted(_NO_NAME))}")
    repository = Repository.around(Path.cwd())
    os.chdir(repository.root)
    if fetch and _take_up_newest(repository):
        click.echo(f"at commit {repository.git('rev-parse', 'HEAD')[:12]}")
        arguments = shlex.join(["--no-fetch", *sys.argv[2:]])
        os.execvp("make", ["make", "--no-print-directory", "worker", f"ARGS={arguments}"])  # noqa: S606, S607 (it is in no shell)
    import_prefect()
    from flows.operations import checks

    settings = Parameters.in_tree(repository).settings
    findings = checks.of_machine(repository, settings)
    for finding in findings:
        click.echo(finding)
    if not all(finding.good for finding in findings):
        raise UserError("this machine takes no work yet; mend what is BAD above and start again")
    from flows.operations.worker import run_worker

    stop_seconds = settings.grace_seconds + _END_SECONDS
    context.exit(run_worker(repository, pool=pool, queues=queues, name=name, stop_seconds=stop_seconds))


def _take_up_newest(repository):
    """Move this clone forward to what its branch has on the remote; whether it moved. Raises GitError where it cannot."""
    if not repository.has_ref("@{upstream}"):
        return False  # a commit of its own, on purpose
    before = repository.git("rev-parse", "HEAD")
    # a person's settings would delete versions that are only here, and ask for a team's tags that have moved
    repository.over_network("fetch", "--quiet", "--no-prune", "--no-prune-tags")
    repository.git("merge", "--quiet", "--ff-only", "@{upstream}")
    return repository.git("rev-parse", "HEAD") != before
