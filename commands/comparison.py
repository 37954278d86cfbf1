"""What two commands show of two runs: `gan versions compare` and `gan report-change`."""

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flows import metrics, revisions
from flows.gate import LOCK, same_ruler
from flows.metrics import ComparedMetric
from flows.request import Parameters
from flows.revisions import Revision
from flows.settings import GateSettings
from flows.studies.spreads import measured
from gan.errors import DataError
from gan.pages import change

GENERATOR = "data/model/generator.keras"
HISTORY = "data/model/history.csv"
TRAJECTORY = "data/evaluation/trajectory.csv"


@dataclass(frozen=True)
class TwoRuns:
    """Two revisions, and how their numbers differ."""

    old: Revision
    new: Revision
    gate: GateSettings  # the working tree's: today's rule, for runs of any age
    metrics: list[ComparedMetric]
    parameters: list[tuple[str, str, str]]  # dotted name, old, new
    same_ruler: bool  # whether the same judge has measured both

    def verdict(self, *, shown, quote=str):
        """One or two sentences on the gate's metric, named as `shown`.

        Before them stands one for each run whose results are not its own. quote: makes a text of a run's name.
        """
        said = change.verdict(self.metrics, metric=self.gate.metric, direction=self.gate.direction, shown=shown)
        for run, stale in reversed(self._stale):
            others = " and ".join(name for name, found in stale.items() if found)
            said = f"The results of {quote(run)} were made with other {others} than it has. {said}"
        return said

    def stale(self, run):
        """The names of the parameters and the paths of the files that are others now than when the results of `run` were made."""
        return [name for one, stale in self._stale if one is run for names in stale.values() for name in names]

    def warnings(self):
        """A line where not the same judge has measured both, and for each run whose results are not its own."""
        lines = []
        if not self.same_ruler:
            moves = f"which alone moves {self.gate.metric} by about {100 * self.gate.ruler_spread:.2g} %"
            lines.append(f"Different judges have measured the two runs, {moves}; by how much the others is not stated.")
        for run, stale in self._stale:
            for words, names in zip(("values", "content"), stale.values(), strict=True):
                if names:
                    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
                    lines.append(f"The results of {run} were made with other {words} of {shown}: run `dvc repro`, then commit.")
        return lines

    @cached_property
    def _stale(self):
        """Each Revision whose results are not its own, with what has changed since: parameters and files."""
        found = [(run, {"parameters": run.stale_params(), "files": run.stale_files()}) for run in (self.old, self.new)]
        return [(run, stale) for run, stale in found if any(stale.values())]


def find_both(repository, old, new):
    """The TwoRuns that the names `old` and `new` mean; raises UserError in one line."""
    old, new = revisions.find(repository, old), revisions.find(repository, new)
    gate = Parameters.in_tree(repository).settings.gate
    spreads = [measured(repository.root, run.params()) for run in (new, old)]
    same = same_ruler(gate, old.read(LOCK), new.read(LOCK))
    return TwoRuns(
        old=old,
        new=new,
        gate=gate,
        metrics=metrics.compare(new.metrics(), old.metrics(), gate, measured=spreads, same_ruler=same),
        parameters=change.parameter_changes(old.params(), new.params()),
        same_ruler=same,
    )


def draw(two, *, seed, missing):
    """The `gan.pages.compare_pictures.BothDrawn` of the two generators, or None.

    A line for each generator that is not here goes to the list `missing`. Raises DataError for a damaged one.
    """
    with _fetched(two, GENERATOR, missing) as files:
        if len(files) < 2:
            return None
        from gan.runtime import start_tensorflow

        start_tensorflow(1)
        from gan.keras_files import load_model
        from gan.pages.compare_pictures import draw_both

        generators = [_read(load_model, *files[name], GENERATOR) for name in ("old", "new")]
    return draw_both(*generators, seed=seed)


def overlay(two, *, missing):
    """The `gan.pages.compare_charts.Overlay`s of what the two runs recorded.

    A line for each file that is not here goes to the list `missing`. Raises DataError for a damaged one.
    """
    from gan.pages.compare_charts import overlays
    from gan.pages.inputs import read_table

    def table(file):
        return read_table(file, columns=["step"])

    tables = []
    for path in (HISTORY, TRAJECTORY):
        with _fetched(two, path, missing) as files:
            tables.append({name: _read(table, *found, path) for name, found in files.items()})
    return overlays(*tables)


def described(run):
    """What a Revision is, in a few words."""
    return "edits included" if run.commit is None else f"commit {run.commit[:12]}"


@contextmanager
def _fetched(two, path, missing):
    """Yield "old" and "new" -> (Revision, file), of those that have the file `path` that DVC keeps."""
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name, run in (("old", two.old), ("new", two.new)):
            try:
                files[name] = run, run.fetch(path, Path(folder) / name)
            except DataError as error:
                missing.append(str(error))
        yield files


def _read(read, run, file, path):
    """`read(file)`; an error names the file of the run and not its copy."""
    try:
        return read(file)
    except DataError as error:
        raise DataError(str(error).replace(str(file), f"{path} of {run}")) from None
