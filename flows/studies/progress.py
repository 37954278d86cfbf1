"""A study on its way: which cells are wanted, which are done, and what their metrics say so far."""

import math
from dataclasses import dataclass, replace

from flows.metrics import NOISE_SUFFIX, recorded_metrics
from flows.studies import records, statistics
from flows.studies.cells import Cell, Study
from flows.studies.params import BASELINE
from flows.studies.records import Record
from gan.errors import DataError


@dataclass(frozen=True)
class Done:
    """A cell that was run, with its numbers."""

    cell: Cell
    record: Record
    metrics: dict  # flat


@dataclass(frozen=True)
class Progress:
    """What a Study has so far."""

    study: Study
    done: dict[str, list[Done]]  # variant -> its cells in the order of seeds
    comparisons: list[statistics.Comparison]

    @property
    def rule(self):
        """How it is judged."""
        return rule_of(self.study)

    def values(self, variant, metric):
        """The metric of each run that the variant has, in the order of seeds."""
        return [one.metrics[metric] for one in self.done[variant]]

    def gapless(self, variant):
        """The variant's runs up to the first seed that has none; it may have failed, which must not be passed over in silence."""
        first = self.study.params.seeds.first
        return [one for number, one in enumerate(self.done[variant]) if one.cell.seed == first + number]

    def sentences(self):
        """(variant, metric, verdict, what is said of it) for all comparisons; for the baseline where nothing is compared."""
        if self.study.compares:
            return [(one.variant, one.metric, one.verdict, statistics.sentence(one, self.rule)) for one in self.comparisons]
        count, done = self.study.params.seeds.count, self.gapless(BASELINE)
        if len(done) < count:
            text = statistics.pending_sentence(count - len(done))
            return [(BASELINE, metric, "pending", text) for metric in self.study.params.metrics]
        values = {metric: [one.metrics[metric] for one in done[:count]] for metric in self.study.params.metrics}
        return [
            (BASELINE, metric, "spread", statistics.worst_sentence(some, metric, self.rule)) for metric, some in values.items()
        ]

    def missing(self, *, until_decided, failed=frozenset()):
        """The Cells that the study wants next, seed by seed; none where it is over.

        until_decided: after the seeds that every variant gets, as many more as the next look of the rule asks for, of the
        baseline and the variants that are not decided. failed: keys of cells that are not to be tried again; a look that lacks
        one is given up.
        """
        cells = self._missing(dict.fromkeys(self.study.variants, self.study.params.seeds.count), failed)
        if cells or not until_decided:
            return cells
        for look in self.rule.looks:
            wanted = [one.variant for one in self.comparisons if one.verdict == "undecided" and one.seeds < look]
            lost = {name for name in [BASELINE, *wanted] if any(cell.key in failed for cell in self.study.cells(name, look))}
            wanted = [] if BASELINE in lost else [name for name in wanted if name not in lost]
            if wanted and (cells := self._missing(dict.fromkeys([BASELINE, *wanted], look), failed)):
                return cells
        return []

    def _missing(self, wanted, failed):
        known = {one.cell.key for cells in self.done.values() for one in cells} | failed
        cells = [cell for name, count in wanted.items() for cell in self.study.cells(name, count)]
        return sorted((cell for cell in cells if cell.key not in known), key=lambda cell: cell.seed)


def rule_of(study):
    """The statistics.Rule of a Study."""
    params, others = study.params, tuple(name for name in study.variants if name != BASELINE)
    return statistics.Rule(params.metrics, params.seeds.looks(), params.paired, others)


def progress_of(study):
    """The Progress of a Study, from what is recorded; raises DataError where a run lacks a metric that decides."""
    known, most = records.every(study.repository), study.params.seeds.most
    done = {
        name: [
            Done(cell, known[cell.key], metrics_of(study, known[cell.key]))
            for cell in study.cells(name, most)
            if cell.key in known
        ]
        for name in study.variants
    }
    return _judged(Progress(study, done, []))


def _judged(progress):
    samples = {
        variant: {metric: [one.metrics[metric] for one in progress.gapless(variant)] for metric in progress.study.params.metrics}
        for variant in progress.done
    }
    baseline = samples.pop(BASELINE)
    return replace(progress, comparisons=statistics.judge(samples, baseline, progress.rule))


def metrics_of(study, record):
    """The numbers of a Record, one flat dict; raises DataError where one that decides is not there or not finite."""
    found = recorded_metrics(study.repository, record)
    numbers = [name for name, value in found.items() if isinstance(value, int | float) and math.isfinite(value)]
    for metric in study.params.metrics:
        if metric not in numbers:
            there = ", ".join(name for name in numbers if not name.endswith(NOISE_SUFFIX)) or "none"
            raise DataError(f"study {study.name}: {record.name} has no finite number {metric!r}; there are {there}")
    return found
