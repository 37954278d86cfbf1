"""`gan maintain`: let go what is no longer needed, on this machine, the git remote and the server."""

import os
from pathlib import Path

import click

from flows.git import Repository


@click.command()
@click.option("--keep-versions", type=click.IntRange(min=1), default=100, show_default=True, help="The newest ones that stay.")
@click.option("--from-remote", is_flag=True, help="Delete the other versions' tags on the git remote as well.")
@click.option("--checkpoint-days", type=click.IntRange(min=1), default=30, show_default=True, help="Checkpoints older go.")
@click.option("--run-days", type=click.IntRange(min=1), default=90, show_default=True, help="Flow runs that ended before go.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def maintain(dry_run, **retention):
    """Let go what is no longer needed: a line for each kind of thing.

    Accepted versions stay, and so does the data of every version that stays. Workers do the same by themselves every Sunday.
    """
    repository = Repository.around(Path.cwd())
    os.chdir(repository.root)
    from flows.operations.maintenance import Retention
    from flows.operations.maintenance import maintain as work

    work(repository, Retention(**retention), dry_run=dry_run, log=click.echo)
