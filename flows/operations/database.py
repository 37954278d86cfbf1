"""PostgreSQL for a team's Prefect server: one folder holds its files and its socket, and no network leads to it."""

import contextlib
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from gan.errors import UserError
from gan.files import replacing

_NAME = "prefect"  # of the database and of its user
_START_SECONDS = 60
_STOP_SECONDS = 30
_LONGEST_SOCKET = 90  # bytes of a folder in which a socket can stand
_DEBIANS = Path("/usr/lib/postgresql")  # here Debian's package puts a folder for each version
_ROOTS_USER = "postgres"  # PostgreSQL refuses to run as root; Debian's package makes this user


@dataclass(frozen=True)
class Database:
    """The one whose files are in `folder`."""

    folder: Path

    @property
    def socket_folder(self):
        """Where its socket is."""
        return self.folder / "socket"

    @property
    def url(self):
        """How Prefect reaches it."""
        return f"postgresql+asyncpg://{_NAME}@/{_NAME}?host={urllib.parse.quote(str(self.socket_folder))}"

    def answers(self):
        """Whether it runs."""
        return self._run("pg_isready", "--quiet", check=False).returncode == 0

    @contextlib.contextmanager
    def running(self):
        """Let it run in the block, made anew if there is none yet; it ends with the block, and with this process.

        Raises UserError where it cannot, and where it runs already.
        """
        self._require_possible()
        if self.answers():
            raise UserError(f"{self.folder}: another server uses this database; stop that one first")
        data = self.folder / "data"
        missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        self.socket_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = not (data / "PG_VERSION").exists()
        if new:
            shutil.rmtree(data, ignore_errors=True)  # of an attempt that was cut
            data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            for path in missing:
                path.chmod(path.stat().st_mode | 0o011)  # whatever the umask: PostgreSQL's user has to get through
            for path in (data, self.socket_folder):
                shutil.chown(path, _ROOTS_USER, _ROOTS_USER)
            self._require_reachable()
        if new:
            self._call("initdb", f"--pgdata={data}", f"--username={_NAME}", "--auth=trust", "--encoding=UTF8", "--locale=C")
        options = [
            "-c",
            "listen_addresses=",
            "-c",
            f"unix_socket_directories={self.socket_folder}",
            "-c",
            "log_min_messages=warning",
        ]
        with open(self.folder / "postgres.log", "ab") as log:
            process = subprocess.Popen(
                [*_as_postgres(end_with_parent=True), _program("postgres"), "-D", str(data), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )
        try:
            self._wait_for_start(process)
            yield self
        finally:
            process.send_signal(signal.SIGINT)  # its clients are cut off, and what they had written stays
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            process.kill()
            process.wait()

    def back_up(self, file):
        """Write all of it to `file`, whole or not at all, while it runs or not. Raises UserError where there is none.

        Only this user can read the file: it holds the key of all that Prefect keeps secret.
        """
        if not (self.folder / "data" / "PG_VERSION").exists():
            raise UserError(f"{self.folder}: there is no team's database here; --home says which server's to back up")
        with self._at_work(), _umask(0o077), replacing(file) as temporary:
            self._run("pg_dump", "--format=custom", f"--file={temporary}", f"--dbname={_NAME}")

    def restore(self, file):
        """Put what `back_up` has written in its place; it must not run. Raises UserError."""
        with self.running():
            if self._run("pg_restore", "--list", str(file), check=False).returncode != 0:
                raise UserError(f"{file}: no backup of a Prefect server's database")
            new = f"{_NAME}_new"
            self._run("dropdb", "--if-exists", new)
            self._run("createdb", new)
            self._run("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={new}", str(file))
            rename = f"ALTER DATABASE {new} RENAME TO {_NAME}"
            self._run("dropdb", "--if-exists", _NAME)
            self._run("psql", "--quiet", "--dbname=postgres", f"--command={rename}")

    def _at_work(self):
        return contextlib.nullcontext() if self.answers() else self.running()

    def _wait_for_start(self, process):
        end = time.monotonic() + _START_SECONDS
        while not self.answers():
            if process.poll() is not None or time.monotonic() > end:
                raise UserError(f"PostgreSQL did not start; {self.folder / 'postgres.log'} says why")
            time.sleep(0.1)
        known = self._run("psql", "--dbname=postgres", "--tuples-only", "--command=SELECT datname FROM pg_database")
        if _NAME not in known.stdout.split():
            self._run("createdb", _NAME)

    def _require_possible(self):
        if len(str(self.socket_folder)) > _LONGEST_SOCKET:
            raise UserError(f"{self.folder}: too long a path for a socket; expected at most {_LONGEST_SOCKET - 7} characters")
        _program("initdb")
        if os.geteuid() == 0:
            try:
                pwd.getpwnam(_ROOTS_USER)
            except KeyError:
                raise UserError(
                    f"PostgreSQL does not run as root, and there is no user {_ROOTS_USER}; use a user of its own"
                ) from None

    def _require_reachable(self):
        """As root, PostgreSQL's user must get at the folder."""
        for path in reversed((self.folder, *self.folder.parents)):
            if subprocess.run([*_as_postgres(), "test", "-x", str(path)], check=False).returncode != 0:
                mend = f"chmod o+x {shlex.quote(str(path))}, or choose another --home"
                raise UserError(f"{path}: the user {_ROOTS_USER} may not enter it; {mend}")

    def _run(self, program, *arguments, check=True):
        """A client of the database, on its socket."""
        return _call([_program(program), f"--host={self.socket_folder}", f"--username={_NAME}", *arguments], check=check)

    def _call(self, program, *arguments):
        """A program that works on the files."""
        return _call([*_as_postgres(), _program(program), *arguments])


@contextlib.contextmanager
def _umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _call(command, check=True):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, cwd="/")
    if check and done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{Path(command[0]).name}: {lines[-1]}")
    return done


def _program(name):
    """The path of one of PostgreSQL's programs: on PATH, or where Debian's package puts the newest."""
    if found := shutil.which(name):
        return found
    for folder in sorted(_DEBIANS.glob("*/bin"), key=_version, reverse=True):
        if (folder / name).exists():
            return str(folder / name)
    raise UserError(f"PostgreSQL's {name} is not here; install it (Debian: apt-get install postgresql)")


def _version(folder):
    """Of PostgreSQL in Debian's `folder`, such as /usr/lib/postgresql/9.6/bin: (9, 6)."""
    return tuple(map(int, re.findall(r"\d+", folder.parent.name)))


def _as_postgres(end_with_parent=False):
    """What stands before a command: as root, it runs as PostgreSQL's user; it may get SIGINT when this process ends."""
    words = ["setpriv"]
    if os.geteuid() == 0:
        words += [f"--reuid={_ROOTS_USER}", f"--regid={_ROOTS_USER}", "--init-groups"]
    if end_with_parent:
        words += ["--pdeathsig=INT"]
    return words if len(words) > 1 else []
