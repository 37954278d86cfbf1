"""`gan verify`: read every file of DVC's cache that dvc.lock names, since DVC itself never does."""

from pathlib import Path

import click

from flows.dvc.damage import cache_folder, damaged_outputs, remove_damaged
from flows.dvc.session import DvcSession
from flows.git import Repository

_GRACE_SECONDS = 10  # for DVC to say where its cache is


@click.command()
@click.option("--remove", is_flag=True, help="Remove what is damaged from the cache and from data/; `dvc repro` makes it again.")
@click.pass_context
def verify(context, remove):
    """Look for damaged files in DVC's cache, and name the outputs that they belong to. Silent when all is right."""
    root = Repository.around(Path.cwd()).root
    with DvcSession(root, grace_seconds=_GRACE_SECONDS) as session:
        damaged = damaged_outputs(root, cache_folder(session, root))
    for out, files in damaged.items():
        click.echo(f"{out}: damaged in DVC's cache: {', '.join(map(str, files))}", err=True)
    if remove:
        remove_damaged(root, damaged)
        if damaged:
            click.echo("removed; `dvc repro` (or `dvc pull` first) makes it again", err=True)
    elif damaged:
        click.echo("`gan verify --remove` removes it, then `dvc repro` makes it again", err=True)
        context.exit(1)
