"""The quality gate: is a version's metric worse than the last accepted version's by more than the noise?"""

import json
from dataclasses import dataclass

from flows.metrics import explained_by_noise, flatten, with_spreads
from gan.errors import DataError
from gan.params import PARAMS, decode, parse_yaml

LOCK = "dvc.lock"


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one version."""

    mark: str  # "accepted", "worse" or "partial": not all stages were asked for
    message: str  # one line with the numbers

    @property
    def accepted(self):
        return self.mark == "accepted"


PARTIAL = Verdict("partial", "only some of the stages ran, so the metrics may be an older model's: not judged")


def verdict_on(content, settings, *, last_content, last_tag, same_ruler=True, seed_spreads=None):
    """Compare the bytes of two metrics files: a new version's and the last accepted one's (None: there is none yet).

    The difference is measured in standard deviations of a difference, sqrt(noise_new^2 + noise_last^2), where each noise is that
    of the measurement and the spread over training seeds, sqrt(measured^2 + (seed_spread * value)^2). Where not the same ruler
    has measured both, the spread over rulers is a third part of each. seed_spreads: those of the new version and of the last
    one, where they are not the one that the settings assume for all.
    """
    spread, last_spread = seed_spreads or (settings.seed_spread, settings.seed_spread)
    value, noise = measurement(content, settings, "this run", same_ruler=same_ruler, seed_spread=spread)
    shown = f"{settings.metric} {value:.4g} ± {noise:.2g}"
    if last_content is None:
        return Verdict("accepted", f"{shown}; the first accepted version")
    last_value, last_noise = measurement(last_content, settings, last_tag, same_ruler=same_ruler, seed_spread=last_spread)
    worse_by = value - last_value if settings.direction == "lower" else last_value - value
    allowed = explained_by_noise(noise, last_noise, settings.margin)
    ruler = "" if same_ruler else ", measured by another judge"
    change = f"{shown}, {last_tag} has {last_value:.4g} ± {last_noise:.2g}{ruler}: "
    if worse_by <= 0:
        return Verdict("accepted", change + "not worse")
    if worse_by <= allowed:
        return Verdict("accepted", change + f"worse by {worse_by:.3g}, within the allowed {allowed:.3g}")
    return Verdict("worse", change + f"worse by {worse_by:.3g}, more than the allowed {allowed:.3g}")


def measurement(content, settings, where, *, same_ruler, seed_spread):
    """(metric, its noise) from the JSON bytes `content`; raises DataError where they are missing or no numbers."""
    try:
        metrics = flatten(json.loads(content))
    except (TypeError, json.JSONDecodeError):
        raise DataError(f"{settings.metrics_file} of {where}: missing or not valid JSON; the quality gate reads it") from None
    for key in (settings.metric, settings.noise):
        if not isinstance(metrics.get(key), int | float):
            raise DataError(f"{settings.metrics_file} of {where} has no number {key!r} (see gate in params.yaml)")
    value = metrics[settings.metric]
    spreads = [seed_spread] if same_ruler else [seed_spread, settings.ruler_spread]
    return value, with_spreads(metrics[settings.noise], value, spreads)


def verdict_against_last(repository, settings, content, *, lock, params, seed_spread):
    """Compare the metrics file's bytes `content` with the last accepted version's: (Verdict, that version's tag or None).

    lock: the bytes of the new version's dvc.lock, which names the ruler that measured it.
    params: the text of its params.yaml.
    seed_spread: a function from such a text to the spread over seeds of runs with it.
    """
    last = last_accepted(repository, settings.artifact)
    last_content = repository.read_at(last, settings.metrics_file) if last else None
    if last and last_content is None:
        raise DataError(f"{last} has no {settings.metrics_file} in git; declare that metric with `cache: false` in dvc.yaml")
    same_ruler = last is None or out_digest(lock, settings.ruler) == out_digest(repository.read_at(last, LOCK), settings.ruler)
    last_params = repository.read_at(last, PARAMS) if last else None
    spreads = seed_spread(params), settings.seed_spread if last_params is None else seed_spread(decode(last_params, PARAMS))
    verdict = verdict_on(content, settings, last_content=last_content, last_tag=last, same_ruler=same_ruler, seed_spreads=spreads)
    return verdict, last


def out_digest(lock, path):
    """What the bytes `lock` of a dvc.lock say of the content of the out `path`; None where they do not name it."""
    stages = parse_yaml(lock.decode(), LOCK).get("stages", {}) if lock else {}
    return next((out.get("md5") for stage in stages.values() for out in stage.get("outs", ()) if out["path"] == path), None)


def last_accepted(repository, artifact):
    """The newest tag `artifact@v1.2.3`, or None."""
    tags = repository.git("tag", "--list", f"{artifact}@v*", "--sort=-version:refname").splitlines()
    return tags[0] if tags else None


def next_tag(artifact, last):
    """The tag of the version after `last`."""
    if last is None:
        return f"{artifact}@v1.0.0"
    major, minor, _ = last.rpartition("@v")[2].split(".", 2)
    return f"{artifact}@v{major}.{int(minor) + 1}.0"
