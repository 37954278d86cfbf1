"""`gan server`: Prefect's server for one machine or for a team, and the backup of what it knows."""

import os
from pathlib import Path

import click

from flows.git import Repository
from flows.operations.database import Database
from flows.operations.server import serve

folder = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Of its records; by default .scratch/prefect.",
)


@click.group()
def server():
    """Run Prefect's server, for one machine or for a team; back its database up and restore it."""


@server.command(context_settings={"ignore_unknown_options": True})
@click.option("--host", default="127.0.0.1", show_default=True, help="The address that it listens at.")
@click.option("--port", type=click.IntRange(1, 65535), default=4200, show_default=True)
@folder
@click.option("--team", is_flag=True, help="Keep the records in a PostgreSQL of its own, as several workers need it.")
@click.option("--login-file", type=click.Path(dir_okay=False), metavar="FILE", help="It has one line, user:password.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def start(context, host, port, home, team, login_file, more):
    """Run the server until Ctrl-C. MORE is for `prefect server start`.

    Clients set PREFECT_API_URL=http://HOST:PORT/api and, where there is a login, PREFECT_API_AUTH_STRING=user:password.
    """
    context.exit(serve(host=host, port=port, home=_home(home), team=team, login_file=login_file, more=more))


@server.command()
@folder
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(home, file):
    """Write a team's database to FILE, for this user alone, while the server runs or not."""
    Database(_home(home) / "database").back_up(file.absolute())
    click.echo(f"{file}: {file.stat().st_size:,} bytes")


@server.command()
@folder
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def restore(home, file):
    """Replace a team's database by what `backup` has written to FILE. The server must not run."""
    Database(_home(home) / "database").restore(file.absolute())
    click.echo(f"restored from {file}")


def _home(home):
    if home is None:
        home = os.environ.get("PREFECT_HOME") or Repository.around(Path.cwd()).root / ".scratch" / "prefect"
    return Path(home).absolute()
