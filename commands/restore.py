"""`gan restore`: bring back the results that dvc.lock names, after a `dvc repro` that was stopped or killed."""

from pathlib import Path

import click

from flows.dvc.damage import says_damaged_lock
from flows.dvc.session import DvcSession
from flows.git import Repository
from flows.lock import forget_ended_processes

_GRACE_SECONDS = 10  # for DVC to end


@click.command()
@click.pass_context
def restore(context):
    """Bring back the results that dvc.lock names, after a `dvc repro` that was stopped or killed.

    DVC removes a stage's outputs before the stage runs. Silent when all is there. What DVC has cut off while it was killed is put
    right as well: its file of locks, and dvc.lock, which becomes the committed one.
    """
    repository = Repository.around(Path.cwd())
    forget_ended_processes(repository)
    with DvcSession(repository.root, grace_seconds=_GRACE_SECONDS) as session:
        code, lines = session.dvc("checkout", "--allow-missing")
        if code != 0 and says_damaged_lock(" ".join(lines)):
            repository.git("checkout", "--quiet", "dvc.lock")
            click.echo("dvc.lock was cut off while DVC wrote it: the committed one is back", err=True)
            code, lines = session.dvc("checkout", "--allow-missing")
    deleted = [name for name in repository.git("ls-files", "-z", "--deleted", "--", "data").split("\0") if name]
    if deleted:
        repository.git("checkout", "--quiet", "--", *deleted)
    if code != 0:
        click.echo("\n".join(lines), err=True)
        context.exit(1)
