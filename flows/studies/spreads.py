"""How much a metric moves from seed to seed, as studies have measured it for exact parameters."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from flows.overrides import lookup
from flows.studies.statistics import Deviation
from gan.errors import DataError
from gan.params import parse_yaml

RESULTS = Path("data/studies")
FILE = "spreads.json"
_TRAINING = "train"  # the section whose seeds they are
FEWEST_SEEDS = 4  # with fewer, a deviation says next to nothing


def without_seed(params, seed_parameter):
    """The section of `params` that holds the seed, without the seed, as JSON: equal for runs that differ by their seed alone.

    params: section name -> raw values. None where there is no such parameter.
    """
    section = seed_parameter.partition(".")[0]
    kept = json.loads(json.dumps({section: params.get(section)}, default=str))
    parent, _, last = seed_parameter.rpartition(".")
    node = lookup(kept, parent)
    if not isinstance(node, dict) or last not in node:
        return None
    del node[last]
    return kept


@dataclass(frozen=True)
class Spread:
    """How much a metric moves from seed to seed."""

    share: float  # one standard deviation, as a share of the metric
    seeds: int | None = None  # from which it was measured; None where it is stated and taken for known
    source: str | None = None  # what it was measured of: the same for two runs where one measurement holds for both

    def of(self, *values):
        """The Deviation of a difference of values that this one measurement holds for."""
        return Deviation(abs(self.share) * math.hypot(*values), math.inf if self.seeds is None else self.seeds - 1)


def measured(root, params):
    """Metric -> its Spread over seeds of training, of runs with these parameters of training.

    From the results of studies in the project's folder `root`; where several have measured it, the one with the most seeds.
    A study over seeds of another section, such as the judge's, says nothing of training.
    """
    found = {}
    for path in sorted((Path(root) / RESULTS).glob(f"*/{FILE}")):
        for entry in _read(path):
            parameter = entry["seed_parameter"]
            if parameter.partition(".")[0] != _TRAINING or without_seed(params, parameter) != entry["params"]:
                continue
            for metric, one in entry["metrics"].items():
                enough = one["seeds"] >= FEWEST_SEEDS and one["mean"] != 0
                if enough and (metric not in found or one["seeds"] > found[metric].seeds):
                    source = f"{path.parent.name} {entry['variant']}"
                    found[metric] = Spread(abs(one["deviation"] / one["mean"]), one["seeds"], source)
    return found


def spread_of(root, text, gate):
    """The Spread over seeds of the metric of `gate`, GateSettings, for runs with the params.yaml `text`.

    As a study has measured it, else the one that the gate assumes for all.
    """
    return measured(root, parse_yaml(text)).get(gate.metric, Spread(gate.seed_spread))


def _read(path):
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        for entry in entries:
            _ = entry["variant"], entry["seed_parameter"].partition("."), entry["params"]
            for one in entry["metrics"].values():
                _ = one["seeds"] + one["mean"] + one["deviation"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: not what `gan study report` writes; write it again, or remove it") from None
    return entries
