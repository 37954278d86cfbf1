"""One stage of a run as a Prefect task: its output is the task's log, and its outcome the task's state."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed, Failed

from flows.artifacts import Progress
from flows.deadline import TimeUp
from flows.disk import NoRoom
from flows.dvc.backup import OutputBackup
from flows.dvc.reproduce import CACHED, StageFailed, progress, reproduce_undamaged
from flows.dvc.session import DvcSession
from flows.ends import why_failed
from flows.lock import Skipped
from flows.signals import signals_held
from gan.runtime import scratch_folder

STOPPED = (KeyboardInterrupt, TerminationSignal)  # how a signal reaches Python code: from the keyboard, or from Prefect
_HINTS = {  # DVC's advice to somebody at a keyboard, seven lines a stage
    "",
    "To track the changes with git, run:",
    "git add dvc.lock",
    "To enable auto staging, run:",
    "dvc config core.autostage true",
    "Use `dvc push` to send your updates to remote storage.",
}


class StageTask:
    """The task of one stage in a PipelineRun. Only the download is tried again, and only after failures that may pass."""

    def __init__(self, run, stage, *, forced):
        self._run = run
        self._stage = stage
        self._forced = forced
        self._failure_may_pass = False  # of the last attempt

    def __call__(self):
        """Run it; returns the task's state, whose name is Cached, Restored or Ran where all went well."""
        name, download, retries = self._stage.name, self._run.settings.download, {}
        if name == download.stage and download.attempts > 1:
            retries = {
                "retries": download.attempts - 1,
                "retry_delay_seconds": download.delays_seconds(),
                "retry_condition_fn": lambda *_: self._failure_may_pass,
            }
        attempt = task(self._attempt, name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False, **retries)
        return attempt(return_state=True)

    def _attempt(self):
        try:
            return self._bring_up_to_date()
        except Skipped:
            raise
        except Exception as error:  # DVC was killed, or the disk is full: a traceback would say no more
            return Failed(message=f"{self._stage.name} failed: {why_failed(error)}")

    def _bring_up_to_date(self):
        if self._nothing_changed():
            return Completed(name=CACHED, message="nothing changed")
        run, stage = self._run, self._stage
        backup = OutputBackup(run.tree.root, stage)
        shown = Progress(scratch_folder(run.repository.root))
        try:
            outcome = reproduce_undamaged(
                run.session,
                stage,
                root=run.tree.root,
                settings=run.settings,
                tell=get_run_logger().warning,
                force=self._forced,
                pull=run.description.remote is not None,
                on_line=self._listener(shown),
                deadline=run.deadline,
            )
        except (*STOPPED, TimeUp) as stop:
            self._stop(backup)
            why = stop if isinstance(stop, TimeUp) else "by a signal"
            return Cancelled(message=f"{stage.name} was stopped: {why}; the next run goes on from there")
        except NoRoom as lack:
            return Failed(message=str(lack))
        except StageFailed as failure:
            self._failure_may_pass = run.settings.download.may_pass(failure.output)
            if not run.request.isolated:
                with signals_held():
                    backup.put_back(run.session)
            return Failed(message=str(failure))
        finally:
            shown.close()
        return Completed(name=outcome, message=f"{stage.name}: {outcome}")

    def _nothing_changed(self):
        """Whether DVC need not be asked: the stage had not changed when the run began, and nothing before it has since."""
        run, stage = self._run, self._stage
        unchanged = stage.name not in run.description.changed
        return unchanged and not self._forced and all(run.outcomes[need] == CACHED for need in stage.needs)

    def _listener(self, shown):
        """What takes each line of the stage's output: it goes to the task's log, and its step to the Progress `shown`."""
        log = get_run_logger()

        def hear(line):
            if line.strip() not in _HINTS:
                log.info(line)
            if done := progress(line):
                shown.show(*done)

        return hear

    def _stop(self, backup):
        """End the stage in order: it may save, and what it had made before is there again."""
        run, log = self._run, get_run_logger()
        with signals_held():
            log.warning("stopping %s, up to %g s for it to save", self._stage.name, run.settings.grace_seconds)
            run.session.stop(on_line=log.info)
            if not run.request.isolated:  # a worktree is thrown away
                with DvcSession(run.tree.root, grace_seconds=run.settings.grace_seconds) as fresh:
                    backup.put_back(fresh)
