"""Run the pipeline once: every stage of dvc.yaml in order, as a Prefect flow on the configured server or an embedded one.

The stages run in your working tree, and the commit is yours to make (or --commit). With --isolated they run in a git worktree
at an exact commit, as scheduled runs do: your edits are neither seen nor touched, and the result is recorded as a version.
"""

import argparse
import gc
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flows import overlap, overrides
from flows.dvc_session import DvcSession
from flows.git import top_level
from gan.errors import UserError

# Prefect gives its embedded server 20 s to start, which a busy machine exceeds
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")


def main():
    options = _parse()
    try:
        root = top_level(Path.cwd())
        os.chdir(root)
        text = overrides.apply(overrides.read(root, options.base if options.isolated else None), options.set)
        settings = overrides.settings_of(text)
        lock = session = None
        # DVC, the check and Prefect start side by side
        if not options.isolated:
            lock = overlap.open_lock(root)
            session = DvcSession(root, grace_seconds=settings.grace_seconds, held_files=(lock,), early=True)
        try:
            with ThreadPoolExecutor() as pool:
                check = pool.submit(overrides.check, settings.check_command, text, str(root))
                gc.disable()  # Prefect's classes stay: looking for garbage among them takes a tenth of its import
                from flows import run

                gc.freeze()
                gc.enable()
                check.result()
            state = _run(run, root, options, lock, session)
        finally:
            if session:
                session.stop()
    except _ServerLost as error:
        print(f"python -m flows.pipeline: {error}", file=sys.stderr, flush=True)
        os._exit(1)  # Prefect would spend minutes trying to deliver its events
    except UserError as error:
        sys.exit(f"python -m flows.pipeline: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"{state.name}: {state.message}" if state.message else state.name)
    if state.is_cancelled():
        sys.exit(130)
    sys.exit(0 if state.is_completed() else 1)


class _ServerLost(UserError):
    pass


def _run(run, root, options, lock, session):
    import httpx

    if session:
        run.prestarted[root] = (lock, session)
    try:
        with _no_heartbeats():
            return run.pipeline(
                overrides=options.set,
                stage=options.stage,
                force=options.force,
                isolated=options.isolated,
                commit=options.commit,
                base=options.base,
                dated_seed=options.dated_seed,
                return_state=True,
            )
    except httpx.HTTPError as error:
        raise _ServerLost(f"the Prefect server is out of reach ({error}); what the stages made is kept, run again") from None


def _no_heartbeats():
    """Settings without Prefect's heartbeats, unless somebody asked for them.

    Their thread wakes once a second and Prefect waits for it, so each run would take up to a second longer. A run from the
    command line has somebody watching; the next run tells the server if it was killed. Scheduled runs keep theirs.
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings

    asked_for = "heartbeat_frequency" in get_current_settings().flows.model_fields_set
    return temporary_settings({} if asked_for else {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})


def _parse():
    parser = argparse.ArgumentParser(
        prog="python -m flows.pipeline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter, such as train.steps=1000; repeatable")
    add("--stage", metavar="NAME", help="only this stage and what it needs")
    add("--force", action="store_true", help="run again what has not changed (with --stage: that stage only)")
    add("--commit", action="store_true", help="commit and tag the result, push it where remotes are configured")
    add("--isolated", action="store_true", help="work in a git worktree at --base and record the result as a version")
    add("--base", default="HEAD", metavar="REVISION", help="where an isolated run starts (default: HEAD)")
    add("--dated-seed", metavar="KEY", help="a parameter that gets today's date as its value, such as train.seed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
