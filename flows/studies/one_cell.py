"""One cell: a run of the pipeline in a git worktree, as far as the study's stage, and its record."""

import contextlib
import time

from flows.dvc.reproduce import CACHED, RAN, describe_undamaged, reproduce_undamaged
from flows.dvc.session import DvcSession
from flows.lock import RunLock
from flows.remotes import push_part, remember_results
from flows.request import Parameters
from flows.studies import records
from flows.worktree import environment, remove_left_over, worktree
from gan.errors import UserError
from gan.params import PARAMS


class Place:
    """A worktree at a study's commit in which cells can be brought up to date, one after the other."""

    def __init__(self, study, tree, session, log):
        self._study = study
        self._tree = tree
        self._session = session
        self._log = log

    def bring(self, cell, *, deadline, only_cached=False, share=False):
        """The Record of a Cell: what was made before anywhere comes from DVC's cache, the rest runs.

        With `only_cached` nothing runs, and None is returned where something would have to. With `share` the data goes to DVC's
        remote, if there is one, after each stage that ran and before there is a record; one that there was stays. Raises
        StageFailed, ParamsError for parameters that the project refuses, UserError where the remote refuses, and TimeUp.
        """
        study, settings = self._study, self._study.settings
        text = study.parameters(cell)
        (self._tree.root / PARAMS).write_text(text, encoding="utf-8")
        if not only_cached:
            Parameters.of_text(text).check(self._tree.root)
        common = {"root": self._tree.root, "settings": settings, "tell": self._log, "deadline": deadline}
        described = describe_undamaged(self._session, **common)
        stages, outcomes, seconds = described.stages_for(study.params.stage), {}, 0.0
        for stage in stages:
            if stage.name not in described.changed and all(outcomes[need] == CACHED for need in stage.needs):
                outcomes[stage.name] = CACHED
                continue
            started = time.monotonic()
            outcome = reproduce_undamaged(
                self._session,
                stage,
                **common,
                only_cached=only_cached,
                pull=described.remote is not None,
                on_line=self._log,
            )
            if outcome is None:
                return None
            outcomes[stage.name] = outcome
            if outcome == RAN:
                seconds += time.monotonic() - started
                if share and described.remote is not None and stage is not stages[-1]:
                    self._share_part(cell, described, list(outcomes), deadline)
        names = [stage.name for stage in stages]
        if share and described.remote is not None:
            self._session.push(names, deadline=deadline)
        if known := records.every(study.repository).get(cell.key):
            return known
        return records.record(self._tree, cell, described, stages=names, base=study.base, seconds=seconds)

    def _share_part(self, cell, described, names, deadline):
        """Share what the stages `names` have made: a worker that takes the cell over does not make it again."""
        study = self._study
        try:
            self._session.push(names, deadline=deadline)
            records.record_part(self._tree, cell, described, stages=names, base=study.base)
            push_part(study.repository, study.settings.git_remote, cell)
        except UserError as error:  # all of it is shared at the end as well
            self._log(f"{names[-1]} is not shared yet: {error}")


@contextlib.contextmanager
def a_place(study, *, log, deadline, wait=True, variables=None):
    """Yield a Place for the Study, alone in its repository; raises Skipped where another run is at work and `wait` is false.

    log: gets each line of DVC's and the stages' output.
    variables: more of the environment of the DVC process.
    """
    repository, settings = study.repository, study.settings
    lock, policy = RunLock(repository), "wait" if wait else "skip"
    with lock.exclusive_run(f"study {study.name}", policy=policy, log=log, deadline=deadline):
        remove_left_over(repository)
        with worktree(repository, study.base, f"study-{study.name}") as tree:
            more = environment(repository, tree) | (variables or {})
            held = (lock.fileno(),)
            with DvcSession(tree.root, grace_seconds=settings.grace_seconds, environment=more, held_files=held) as session:
                try:
                    session.share(repository)
                    remember_results(repository, session)
                    session.dvc("checkout", "--allow-missing", "--quiet")
                    yield Place(study, tree, session, log)
                except BaseException:  # Ctrl-C or the time limit: a stage may be at work, and what it says at its end counts
                    log(f"stopping, up to {settings.grace_seconds:g} s for a stage under way to save")
                    session.stop(on_line=log)
                    raise
