"""The quality gate: is a version's metric worse than the last accepted version's by more than the noise?"""

import json
import re
from dataclasses import dataclass

from flows.metrics import deviation_of_difference, flatten
from flows.studies.spreads import Spread
from flows.studies.statistics import Deviation, explained, rate_of, together
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


def verdict_on(content, settings, *, last_content, last_tag, same_ruler=True, spreads=None):
    """Compare the bytes of two metrics files: a new version's and the last accepted one's (None: there is none yet).

    It may be worse by what noise explains at the error rate of `margin` standard deviations: the noise of each measurement and
    the spread over training seeds. Where not the same ruler has measured both, the spread over rulers is a third part. spreads:
    the Spread over seeds of the new version and of the last one, where they are not the one that the settings assume for all.
    """
    spreads = spreads or (Spread(settings.seed_spread),) * 2
    rulers = (0.0 if same_ruler else settings.ruler_spread,) * 2
    value, noise = measurement(content, settings, "this run")

    def shown(value, noise, spread):
        one = together([Deviation(noise), spread.of(value), Deviation(abs(rulers[0] * value))])
        return f"{value:.4g} ± {one.size:.2g}"

    new = f"{settings.metric} {shown(value, noise, spreads[0])}"
    if last_content is None:
        return Verdict("accepted", f"{new}; the first accepted version")
    if settings.metric not in _numbers(last_content, settings, last_tag):
        return Verdict("accepted", f"{new}; the first accepted version that is judged by it: {last_tag} has no {settings.metric}")
    last_value, last_noise = measurement(last_content, settings, last_tag)
    worse_by = value - last_value if settings.direction == "lower" else last_value - value
    deviation = deviation_of_difference((value, last_value), (noise, last_noise), spreads, rulers)
    allowed = explained(deviation, rate_of(settings.margin))
    ruler = "" if same_ruler else ", measured by another judge"
    change = f"{new}, {last_tag} has {shown(last_value, last_noise, spreads[1])}{ruler}: "
    if worse_by <= 0:
        return Verdict("accepted", change + "not worse")
    if worse_by <= allowed:
        return Verdict("accepted", change + f"worse by {worse_by:.3g}, no more than the {allowed:.3g} that noise explains")
    return Verdict("worse", change + f"worse by {worse_by:.3g}, more than the {allowed:.3g} that noise explains")


def measurement(content, settings, where):
    """(metric, its stated noise) from the JSON bytes `content`; raises DataError where they are missing or no numbers."""
    metrics = _numbers(content, settings, where)
    for key in (settings.metric, settings.noise):
        if not isinstance(metrics.get(key), int | float):
            raise DataError(f"{settings.metrics_file} of {where} has no number {key!r} (see gate in params.yaml)")
    return metrics[settings.metric], metrics[settings.noise]


def _numbers(content, settings, where):
    try:
        return flatten(json.loads(content))
    except (TypeError, ValueError):
        raise DataError(f"{settings.metrics_file} of {where}: missing or not valid JSON; the quality gate reads it") from None


def verdict_against_last(repository, settings, content, *, lock, params, spread_of):
    """Compare the metrics file's bytes `content` with the last accepted version's: (Verdict, that version's tag or None).

    lock: the bytes of the new version's dvc.lock, which names the ruler that measured it.
    params: the text of its params.yaml.
    spread_of: a function from such a text to the Spread over seeds of runs with it.
    """
    last = last_accepted(repository, settings.artifact)
    last_content = repository.read_at(last, settings.metrics_file) if last else None
    if last and last_content is None:
        raise DataError(f"{last} has no {settings.metrics_file} in git; declare that metric with `cache: false` in dvc.yaml")
    same = last is None or same_ruler(settings, lock, repository.read_at(last, LOCK))
    last_params = repository.read_at(last, PARAMS) if last else None
    spreads = spread_of(params), Spread(settings.seed_spread) if last_params is None else spread_of(decode(last_params, PARAMS))
    verdict = verdict_on(content, settings, last_content=last_content, last_tag=last, same_ruler=same, spreads=spreads)
    return verdict, last


def same_ruler(settings, lock, other):
    """Whether one ruler has measured what two dvc.locks describe, each its bytes or None."""
    return out_digest(lock, settings.ruler) == out_digest(other, settings.ruler)


def out_digest(lock, path):
    """What the bytes `lock` of a dvc.lock say of the content of the out `path`; None where they do not name it."""
    stages = parse_yaml(lock.decode(), LOCK).get("stages", {}) if lock else {}
    return next((out.get("md5") for stage in stages.values() for out in stage.get("outs", ()) if out["path"] == path), None)


def last_accepted(repository, artifact):
    """The newest tag `artifact@v1.2.3`, or None; somebody may have made others by hand, such as `artifact@vnext`."""
    tags = repository.git("tag", "--list", f"{artifact}@v*", "--sort=-version:refname").splitlines()
    return next((tag for tag in tags if re.fullmatch(rf"{re.escape(artifact)}@v\d+\.\d+\.\d+", tag)), None)


def next_tag(artifact, last):
    """The tag of the version after `last`."""
    if last is None:
        return f"{artifact}@v1.0.0"
    major, minor, _ = last.rpartition("@v")[2].split(".", 2)
    return f"{artifact}@v{major}.{int(minor) + 1}.0"
