"""The quality gate: is a version's metric worse than the last accepted version's by more than the noise?"""

import json
import math
from dataclasses import dataclass

from flows.git import git, read_at
from gan.errors import DataError


@dataclass(frozen=True)
class Verdict:
    """mark: "accepted", "worse" or "partial" (not all stages were asked for); message: one line with the numbers."""

    mark: str
    message: str

    @property
    def accepted(self):
        return self.mark == "accepted"


PARTIAL = Verdict("partial", "only some of the stages ran, so the metrics may be an older model's: not judged")


def judge(gate, content, *, last_content, last_tag):
    """Compare the metrics files' bytes of a new version and of the last accepted one (None: there is none yet).

    The difference is measured in standard deviations of a difference, sqrt(noise_new^2 + noise_last^2), where each noise is that
    of the measurement and the spread over training seeds, sqrt(measured^2 + (seed_spread * value)^2).
    """
    value, noise = measurement(gate, content, "this run")
    shown = f"{gate.metric} {value:.4g} ± {noise:.2g}"
    if last_content is None:
        return Verdict("accepted", f"{shown}; the first accepted version")
    last_value, last_noise = measurement(gate, last_content, last_tag)
    worse_by = value - last_value if gate.direction == "lower" else last_value - value
    allowed = gate.margin * math.hypot(noise, last_noise)
    change = f"{shown}, {last_tag} has {last_value:.4g} ± {last_noise:.2g}: "
    if worse_by <= 0:
        return Verdict("accepted", change + "not worse")
    if worse_by <= allowed:
        return Verdict("accepted", change + f"worse by {worse_by:.3g}, within the allowed {allowed:.3g}")
    return Verdict("worse", change + f"worse by {worse_by:.3g}, more than the allowed {allowed:.3g}")


def measurement(gate, content, where):
    """(metric, its noise) from the JSON bytes `content`; raises DataError where they are missing or no numbers."""
    try:
        metrics = flatten(json.loads(content))
    except (TypeError, json.JSONDecodeError):
        raise DataError(f"{gate.metrics_file} of {where}: missing or not valid JSON; the quality gate reads it") from None
    for key in (gate.metric, gate.noise):
        if not isinstance(metrics.get(key), int | float):
            raise DataError(f"{gate.metrics_file} of {where} has no number {key!r} (see gate in params.yaml)")
    return metrics[gate.metric], math.hypot(metrics[gate.noise], gate.seed_spread * metrics[gate.metric])


def flatten(value, prefix=""):
    """Nested dicts of a metrics file as one dict with dotted names; lists are left out."""
    if not isinstance(value, dict):
        return {prefix: value} if isinstance(value, int | float | str) else {}
    flat = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def compare(metrics, previous):
    """Rows of metric, value, previous value and change; both arguments are flat dicts."""
    rows = []
    for key, value in metrics.items():
        before = previous.get(key)
        numbers = isinstance(value, int | float) and isinstance(before, int | float)
        change = f"{value - before:+.4g}" if numbers else ""
        rows.append({"metric": key, "value": value, "previous": "" if before is None else before, "change": change})
    return rows


def last_accepted(root, artifact):
    """The newest tag `artifact@v1.2.3`, or None."""
    tags = git(root, "tag", "--list", f"{artifact}@v*", "--sort=-version:refname").splitlines()
    return tags[0] if tags else None


def next_tag(artifact, last):
    """The tag of the version after `last`."""
    if last is None:
        return f"{artifact}@v1.0.0"
    major, minor, _ = last.rpartition("@v")[2].split(".", 2)
    return f"{artifact}@v{major}.{int(minor) + 1}.0"


def against_last(root, gate, content):
    """Judge the metrics bytes `content` against the last accepted version in `root`: (Verdict, its tag or None)."""
    last = last_accepted(root, gate.artifact)
    last_content = read_at(root, last, gate.metrics_file) if last else None
    if last and last_content is None:
        raise DataError(f"{last} has no {gate.metrics_file} in git; declare that metric with `cache: false` in dvc.yaml")
    return judge(gate, content, last_content=last_content, last_tag=last), last
