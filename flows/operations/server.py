"""Prefect's server as this project wants it: the page asks the port that it is served from, nothing is sent elsewhere."""

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

from flows.operations.child import run_to_end
from flows.operations.database import Database
from gan.errors import UserError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_STOP_SECONDS = 20


def serve(*, host, port, home, team, login_file, more=()):
    """Run the server until it or this process is ended; returns its exit code.

    home: the folder of its records. team: keep them in a PostgreSQL of its own there, else in SQLite.
    login_file: a file with "user:password", which is then asked for; without one it serves this machine alone.
    Raises UserError.
    """
    if host not in LOOPBACK and login_file is None:
        raise UserError(f"--host {host}: everybody there could run code on the workers; give --login-file as well")
    environment = settings(host=host, port=port, home=home, login=read_login(login_file))
    database = Database(home / "database")
    with database.running() if team else contextlib.nullcontext():
        home.mkdir(parents=True, exist_ok=True)
        if team:
            environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.url
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port), *more]
        return run_to_end(command, environment, asked_by=signal.SIGINT, stop_seconds=_STOP_SECONDS)


def settings(*, host, port, home, login):
    """The environment of the server; what the user's own says goes first, but for `home`. login: "user:password" or None."""
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104 (compared)
    wanted = {
        # its page asks this address, and would ask port 4200 whatever port it came from; a page from elsewhere asks its own host
        "PREFECT_SERVER_UI_API_URL": f"http://{shown}:{port}/api" if host in LOOPBACK else "/api",
        "PREFECT_UI_URL": f"http://{shown}:{port}",  # of the links in notifications
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # held slots must be freed even if the server was restarted meanwhile
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # runs older than this are deleted, with their logs and artifacts
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(90 * 24 * 3600),
    }
    environment = {**wanted, **os.environ, "PREFECT_HOME": str(home)}
    for address in ("PREFECT_API_URL", "PREFECT_PROFILE"):  # a client's settings are not the server's
        environment.pop(address, None)
    if login is not None:
        environment["PREFECT_SERVER_API_AUTH_STRING"] = login
        environment["PREFECT_API_AUTH_STRING"] = login  # its own services are clients as well
    return environment


def read_login(file):
    """The line "user:password" in `file`, None for None; raises UserError where it is none, or where others can read it."""
    if file is None:
        return None
    try:
        content = Path(file).read_text(encoding="utf-8").strip()
        readable = Path(file).stat().st_mode & 0o077
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: expected UTF-8") from None
    user, separator, password = content.partition(":")
    if not (user and separator and password) or "\n" in content:
        raise UserError(f"{file}: expected one line user:password")
    if readable:
        raise UserError(f"{file}: others can read it; chmod 600 {file}")
    return content
