"""What a machine needs before it takes work, and what shows that nobody must look after the pipeline: one Finding each."""

import contextlib
import datetime
import email.utils
import time
from dataclasses import dataclass

import httpx

from flows import versions
from flows.claims import REFS
from flows.deadline import Deadline, TimeUp
from flows.disk import free_gigabytes
from flows.dvc.session import Busy, DvcSession
from flows.git import GitError
from flows.parent import MOST_AT_ONCE, login_headers, no_answer, server_api
from gan.errors import UserError

_CLOCK_SECONDS = 5  # by which this machine's clock may be off
_REMOTE_SECONDS = 90
_SILENT_SECONDS = 600  # of a run that lives
_MANY = 20  # runs that are due at once


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    good: bool
    text: str  # one line: what there is, or what is missing and what to do

    def __str__(self):
        return f"{'ok ' if self.good else 'BAD'} {self.name}: {self.text}"


def of_machine(repository, settings):
    """What this machine needs to take work: a list of Findings. settings: the FlowParams."""
    server, clock = of_server()
    return [server, clock, of_git(repository, settings.git_remote), of_dvc_remote(repository), of_disk(repository, settings)]


def of_server():
    """Whether the Prefect server answers and lets this machine in, and whether both agree about the time."""
    url = server_api()
    unknown = Finding("clock", False, "not compared: no server")
    if not url:
        return Finding("server", False, "none is set; export PREFECT_API_URL=http://HOST:4200/api"), unknown
    try:
        sent = time.time()
        answer = httpx.get(f"{url}/admin/version", headers=login_headers(), timeout=15)
        took = time.time() - sent
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            return Finding("server", False, f"{url} wants a login; export PREFECT_API_AUTH_STRING=user:password"), unknown
        version = answer.raise_for_status().json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return Finding("server", False, f"{no_answer(url, error)}; start it, or correct PREFECT_API_URL"), unknown
    there = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp() + 0.5  # it is cut to seconds
    off = sent + took / 2 - there
    good = abs(off) <= _CLOCK_SECONDS + took
    behind = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the server's; let a time service set both"
    return (
        Finding("server", True, f"Prefect {version} at {url}"),
        Finding("clock", good, "as the server's" if good else behind),
    )


def of_git(repository, remote):
    """Whether versions can be fetched from the git remote and pushed to it."""
    if not repository.has_remote(remote):
        return Finding("git remote", False, f"there is none named {remote}; git remote add {remote} URL")
    try:
        repository.over_network("push", "--quiet", "--dry-run", remote, f"HEAD:{REFS}try")
    except GitError as error:
        return Finding("git remote", False, f"{remote} takes no pushes: {error}")
    return Finding("git remote", True, repository.git("remote", "get-url", remote))


def of_dvc_remote(repository):
    """Whether a file can be written to the DVC remote and read again."""
    try:
        with DvcSession(repository.root, grace_seconds=5) as session:
            url = session.try_remote(Deadline(_REMOTE_SECONDS))
    except TimeUp:
        return Finding("DVC remote", False, f"no answer in {_REMOTE_SECONDS} s")
    except (UserError, Busy) as error:
        return Finding("DVC remote", False, str(error))
    if url is None:
        return Finding("DVC remote", False, "there is none; dvc remote add --default storage ssh://HOST/FOLDER")
    return Finding("DVC remote", True, url)


def of_disk(repository, settings):
    """Whether there is room to train."""
    free = free_gigabytes(repository.root)
    text = f"{free:.1f} GB free, at least {settings.free_gigabytes:g} wanted"
    return Finding("disk", free >= settings.free_gigabytes, text)


def of_repository(repository):
    """What runs have left in this clone."""
    known = versions.every(repository)
    unpushed = [version.tag for version in known if not version.pushed]
    folder = repository.root / ".dvc" / "tmp" / "runs"
    left = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    pushes = f"{len(unpushed)} of {len(known)} not pushed, the next run tries again" if unpushed else f"{len(known)}, all pushed"
    return [
        Finding("versions", not unpushed or not repository.git("remote"), pushes),
        Finding("worktrees", True, f"{len(left)} in use or left over; the next run removes what is left over"),
    ]


def of_runs(pool):
    """What the server says of workers, runs and slots, and of the automations that look after them."""
    from flows.operations.deployment import AUTOMATIONS

    with connected() as asked:
        running = asked.filter("flow_runs", flow_runs={"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}})
        heard = {run["id"]: asked.last_heartbeat(run["id"]) for run in running}
        due = asked.filter("flow_runs", flow_runs={"state": {"name": {"any_": ["Late", "AwaitingConcurrencySlot"]}}})
        online = asked.online(pool)
        limits = asked.post("v2/concurrency_limits/filter", {}) or []
        installed = {one["name"]: one["enabled"] for one in asked.post("automations/filter", {}) or []}
    silent = [run["name"] for run in running if min(heard[run["id"]] or 1e9, _age(run["start_time"])) > _SILENT_SECONDS]
    held = sum(limit["active_slots"] for limit in limits if limit["name"].startswith("deployment:"))
    missing = [name for name in AUTOMATIONS if not installed.get(name)]
    return [
        Finding("workers", bool(online), ", ".join(online) or f"none is online in {pool}; start one with gan worker"),
        Finding("running", not silent, f"{len(running)}" + (f", not heard of: {', '.join(silent)}" if silent else "")),
        Finding("waiting", len(due) < _MANY, f"{len(due)} runs are due" + (": do workers run?" if len(due) >= _MANY else "")),
        Finding(
            "slots", held <= len(running), f"{held} held by {len(running)} runs" + ("; gan deploy" if held > len(running) else "")
        ),
        Finding("automations", not missing, f"not there: {', '.join(missing)}; gan deploy" if missing else "installed and on"),
    ]


def workers_of(deployment):
    """(the work pool of `deployment`, FLOW/NAME, and the names of its workers that are online)."""
    flow, _, name = deployment.partition("/")
    with connected() as asked:
        [found] = asked.filter("deployments", flows={"name": {"any_": [flow]}}, deployments={"name": {"any_": [name]}})
        return found["work_pool_name"], asked.online(found["work_pool_name"])


@contextlib.contextmanager
def connected():
    """A Server, by Prefect's own client, which logs in and asks again while the server's database is locked."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        yield Server(client)


class Server:
    """The server's REST interface."""

    def __init__(self, client):
        self._client = client

    def post(self, path, body):
        """The answer, or None where there is no such thing. Raises UserError where the server cannot be asked."""
        try:
            return self._client.request("POST", f"/{path}", json=body).json()
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise UserError(f"the Prefect server at {self._client.api_url} does not answer ({error}); try again") from None

    def filter(self, kind, **where):
        return self.post(f"{kind}/filter", {**where, "limit": MOST_AT_ONCE})

    def online(self, pool):
        """The names of the work pool's workers that are online."""
        return [one["name"] for one in self.post(f"work_pools/{pool}/workers/filter", {}) or [] if one["status"] == "ONLINE"]

    def last_heartbeat(self, run):
        """Seconds since the run's last heartbeat, or None where the server knows of none."""
        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        where = {
            "occurred": {"since": since.isoformat()},
            "event": {"name": ["prefect.flow-run.heartbeat"]},
            "resource": {"id": [f"prefect.flow-run.{run}"]},
        }
        found = self.post("events/filter", {"filter": where, "limit": 1})["events"]
        return _age(found[0]["occurred"]) if found else None


def _age(moment):
    """Seconds since `moment`, an ISO time."""
    return (datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(moment)).total_seconds() if moment else 0.0
