"""`gan maintain`: let go what is no longer needed, on this machine, the git remote and the server."""

import os
from pathlib import Path

import click

from flows.git import Repository
from flows.parent import import_prefect
from flows.prune import Retention


def _from_1(option, text):
    """An option for a whole number of Retention's."""
    default = getattr(Retention, option.removeprefix("--").replace("-", "_"))
    return click.option(option, type=click.IntRange(min=1), default=default, show_default=True, help=text)


@click.command()
@_from_1("--keep-versions", "The newest ones that stay.")
@click.option("--from-remote", is_flag=True, help="Delete the other versions' tags on the git remote as well.")
@_from_1("--checkpoint-days", "Checkpoints older go.")
@_from_1("--run-days", "Flow runs that ended before go.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def maintain(dry_run, **retention):
    """Let go what is no longer needed: a line for each kind of thing.

    Accepted versions stay, and so does the data of every version that stays. Workers do the same by themselves every Sunday.
    """
    repository = Repository.around(Path.cwd())
    os.chdir(repository.root)
    import_prefect()
    from flows.operations.maintenance import maintain as work

    work(repository, Retention(**retention), dry_run=dry_run, log=click.echo)
