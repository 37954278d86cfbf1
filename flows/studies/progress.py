"""A study on its way: which cells are wanted, which are done, and what their metrics say so far."""

from dataclasses import dataclass, replace

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

    def missing(self, *, until_decided):
        """The Cells that the study wants next, seed by seed; none where it is over.

        until_decided: after the seeds that every variant gets, as many more as the next look of the rule asks for, of the
        baseline and the variants that are not decided.
        """
        wanted = dict.fromkeys(self.study.variants, self.study.params.seeds.count)
        cells = self._missing(wanted)
        if cells or not until_decided:
            return cells
        undecided = [one.variant for one in self.comparisons if one.verdict == "undecided"]
        seen = max((one.seeds for one in self.comparisons if one.verdict == "undecided"), default=0)
        looks = [count for count in self.rule.looks if count > seen]
        if not undecided or not looks:
            return []
        return self._missing(wanted | dict.fromkeys([BASELINE, *undecided], looks[0]))

    def _missing(self, wanted):
        known = {one.cell.key for cells in self.done.values() for one in cells}
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
            Done(cell, known[cell.key], _metrics(study, known[cell.key])) for cell in study.cells(name, most) if cell.key in known
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


def _metrics(study, record):
    found = records.metrics(study.repository, record)
    for metric in study.params.metrics:
        if not isinstance(found.get(metric), int | float):
            raise DataError(f"study {study.name}: {record.name} has no number {metric!r}; see metrics in its file")
    return found
