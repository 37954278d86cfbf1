"""Serving the flow with a schedule: runs start by themselves as long as the serving process and a Prefect server run."""

import asyncio
import logging
import signal
import sys
import zoneinfo

from flows.parent import announce, hold_interrupts, import_prefect, no_answer, server_api
from gan.errors import UserError

_OBSERVERS = ("FlowRunCancellingObserver", "FlowRunSuspendingObserver")  # of Prefect's runner
_START = "start one with `gan server start`, then set PREFECT_API_URL=http://127.0.0.1:4200/api and try again"


def parse_schedule(*, cron=None, interval_seconds=None, timezone):
    """Prefect's schedule for a cron expression or an interval; raises UserError where it is not valid."""
    import_prefect()
    from prefect.schedules import Cron, Interval

    if timezone not in zoneinfo.available_timezones():
        raise UserError(f"--timezone {timezone!r}: unknown; expected a name such as Europe/Berlin or UTC")
    try:
        return Cron(cron, timezone=timezone) if cron else Interval(interval_seconds, timezone=timezone)
    except ValueError as error:
        raise UserError(f"the schedule is not valid: {' '.join(str(error).split())}") from None


def require_server():
    """A schedule without a server of its own never fires, so refuse it. Raises UserError."""
    import httpx

    url = server_api()
    if not url:
        raise UserError(f"no Prefect server is set, and a schedule without one never fires; {_START}")
    try:
        httpx.get(f"{url}/health", timeout=10).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(f"the Prefect server at {no_answer(url, error)}; {_START}") from None


def in_one_line(record):
    """A filter for logs: what Prefect's observers of runs say, without pages of traceback where the server is away for a while.

    They go on by asking the server now and then. At the end they are cancelled, and what asyncio says of that is left out.
    """
    if not any(name in record.getMessage() for name in _OBSERVERS) and not record.name.endswith(_OBSERVERS):
        return True
    cancelled = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    record.exc_info = record.exc_text = None
    return not cancelled


def serve(request, *, name, schedule, overlap):
    """Serve the flow as the deployment pipeline/`name` until the process is ended.

    request: the RunRequest of every run.
    overlap: "wait" or "skip", when a run is due while the last one is still under way.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop like Ctrl-C, until runs have to end in order
    hold_interrupts()

    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.runner import Runner

    from flows.pipeline import pipeline

    class StoppableRunner(Runner):
        """Prefect's, but for signals: its own handler stops the event loop under its feet, with a page of traceback."""

        def handle_sigterm(self, *_):
            """End the run under way in order, then return from `start`."""
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # it does not serve yet, or any more
                sys.exit()
            loop.call_soon_threadsafe(self._begin_to_stop)

        def _begin_to_stop(self):
            if not hasattr(self, "_stopping"):
                self._stopping = asyncio.create_task(self._stop_when_started())

        async def _stop_when_started(self):
            while not self.started:
                await asyncio.sleep(0.1)
            await self.astop()

    for logger in ("asyncio", *(f"prefect.{observer}" for observer in _OBSERVERS)):
        logging.getLogger(logger).addFilter(in_one_line)
    strategy = {"wait": "ENQUEUE", "skip": "CANCEL_NEW"}[overlap]
    runner = StoppableRunner(name=name)
    runner.add_flow(
        pipeline,
        name=name,
        schedule=schedule,
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=strategy),
        parameters={
            "overrides": list(request.overrides),
            "isolated": request.isolated,
            "base": request.base,
            "dated_seed": request.dated_seed,
            "timezone": request.timezone,
        },
    )
    announce()
    print(f"serving pipeline/{name}; its runs start by the schedule until this command ends", flush=True)
    signal.signal(signal.SIGTERM, runner.handle_sigterm)
    asyncio.run(runner.start())
