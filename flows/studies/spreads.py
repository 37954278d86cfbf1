"""How much a metric moves from seed to seed, as studies have measured it for exact parameters."""

import copy
import hashlib
import json
from pathlib import Path

from gan.errors import DataError
from gan.params import parse_yaml

RESULTS = Path("data/studies")
FILE = "spreads.json"
FEWEST_SEEDS = 4  # with fewer, a deviation says next to nothing


def digest(params, seed_parameter):
    """Hex digest of the section that holds the seed, without the seed: equal for runs that differ by their seed alone.

    params: section name -> raw values. None where there is no such parameter.
    """
    section, _, rest = seed_parameter.partition(".")
    values = copy.deepcopy(params.get(section))
    *parents, last = rest.split(".")
    node = values
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        return None
    del node[last]
    return hashlib.sha256(json.dumps({section: values}, sort_keys=True, default=str).encode()).hexdigest()


def measured(root, params, *, margin):
    """Metric -> its standard deviation over seeds as a share of its mean, of runs with these parameters.

    From the results of studies in the project's folder `root`; where several have measured it, the one with the most seeds.
    A deviation of few seeds is itself uncertain, so it is widened as Student's distribution says for `margin` deviations.
    """
    found = {}
    for path in sorted((Path(root) / RESULTS).glob(f"*/{FILE}")):
        for entry in _read(path):
            if digest(params, entry["seed_parameter"]) != entry["digest"]:
                continue
            for metric, one in entry["metrics"].items():
                enough = one["seeds"] >= FEWEST_SEEDS and one["mean"] != 0
                if enough and one["seeds"] > found.get(metric, (0, 0.0))[0]:
                    found[metric] = one["seeds"], abs(one["deviation"] / one["mean"])
    return {metric: share * _widened(seeds, margin) for metric, (seeds, share) in found.items()}


def seed_spread(root, text, gate):
    """The spread over seeds of the metric of `gate`, GateSettings, for runs with the params.yaml `text`.

    As a study has measured it, else the one that the gate assumes for all.
    """
    return measured(root, parse_yaml(text), margin=gate.margin).get(gate.metric, gate.seed_spread)


def _widened(seeds, margin):
    """How many times as far as the normal distribution's `margin` deviations Student's with seeds - 1 degrees must reach."""
    from scipy import special  # not scipy.stats, which takes a second to import

    return float(special.stdtrit(seeds - 1, special.ndtr(margin)) / margin) if margin > 0 else 1.0


def _read(path):
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        for entry in entries:
            _ = entry["seed_parameter"], entry["digest"]
            for one in entry["metrics"].values():
                _ = one["seeds"] + one["mean"] + one["deviation"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: not what `gan study report` writes; write it again, or remove it") from None
    return entries
