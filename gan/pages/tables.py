"""The report's numbers as texts: the head of the page, the log, the metrics, the parameters."""

import json
import math

from gan.lecture import PUBLISHED_LOG, published_tail_mean

HISTORY_COLUMNS = ("step", "g_loss", "d_loss", "d_accuracy")
LOG_COLUMNS = HISTORY_COLUMNS[1:]
TRAINING_NAMES = dict(zip(LOG_COLUMNS, ("Generator loss", "Discriminator loss", "Discriminator accuracy, %"), strict=True))
_TRAINING_DIGITS = (3, 3, 1)  # decimals of each

# metric -> its name for people, and what it says; one that is not here is shown under its own name
METRICS = {
    "fid": ("FID", "distance from real digits in the judge's features; lower is better"),
    "fid_infinity": ("FID∞", "FID without the bias of a finite sample; lower is better"),
    "fid_large_sample": ("FID, large sample", "FID of as many samples as evaluate.large_sample_count says; lower is better"),
    "fid_infinity_large_sample": ("FID∞, large sample", "FID∞ of the same samples; lower is better"),
    "kid": ("KID", "another distance in the same features, unbiased; lower is better"),
    "precision_percent": ("Precision, %", "samples that lie among real digits; higher is better"),
    "recall_percent": ("Recall, %", "real digits that lie among samples; higher is better"),
    "density": ("Density", "how densely real digits surround a sample; 1 for real ones"),
    "coverage_percent": ("Coverage, %", "real digits with a sample nearby; higher is better"),
    "classes": ("Digits present", "of the ten"),
    "class_distance_percent": ("Class distance, %", "how far the digits' shares are from the real ones; lower is better"),
    "confidence_percent": ("Confidence, %", "how sure the judge is of a sample's digit"),
    "copied_percent": ("Copied, %", "samples suspiciously near a training image; about 1 for unseen real digits"),
    "classification_accuracy_percent": (
        "Classification accuracy, %",
        "on real digits, of a classifier trained on generated ones alone; higher is better",
    ),
    "classification_accuracy_real_percent": ("Classification accuracy, real, %", "the same classifier trained on real digits"),
}


def tiles(tail_mean, metrics, floor, *, published):
    """The numbers at the head of the page: a dict each with name, value and note."""
    found = [
        {
            "name": name,
            "value": _fixed(here, digits),
            "note": f"published: {there:.{digits}f}" if published else "at the end of training",
        }
        for name, here, there, digits in zip(
            TRAINING_NAMES.values(), tail_mean, published_tail_mean(), _TRAINING_DIGITS, strict=True
        )
    ]
    if "fid" in metrics:
        real = floor.get("test", {}).get("fid")
        note = "lower is better" if real is None else f"real images: {real:.2f}"
        found.insert(0, {"name": "FID", "value": _fixed(metrics["fid"], 2), "note": note})
    return found


def log_lines(history, *, every_steps, published):
    """The lecture's log: a dict a line with step, `here` and, where the lecture printed that step, `published`, else None.

    Both are (G loss, D loss, D accuracy in percent). `published` says whether the lecture's figures belong there at all.
    """
    return [
        {
            "step": int(step),
            "here": tuple(float(history[name][row]) for name in LOG_COLUMNS),
            "published": PUBLISHED_LOG.get(int(step)) if published else None,
        }
        for row, step in enumerate(history["step"])
        if step % every_steps == 0
    ]


def quality_rows(metrics, floor):
    """A dict a metric with name, meaning, value and `real`, the texts of the real digits' values, one for each part of the floor.

    `metrics` holds flat numbers, the noise of `x` under `x_std`; each part of `floor` holds the same of real digits.
    """

    def text(numbers, name):
        return with_noise(numbers[name], numbers.get(f"{name}_std", 0)) if name in numbers else "–"

    return [
        {
            "name": name_of(name),
            "meaning": METRICS.get(name, ("", ""))[1],
            "value": text(metrics, name),
            "real": [text(part, name) for part in floor.values()],
        }
        for name in metrics
        if not name.endswith("_std")
    ]


def name_of(metric):
    """The name of a metric for people, or its own in words."""
    return METRICS.get(metric, (metric.replace("_", " "),))[0]


def evolution(steps, training, trajectory):
    """What stands beside each snapshot, taken at `steps`.

    `training` rows, a dict each with name and `texts`, have a text for each snapshot, of `training` values float64 [k]. `quality`
    rows have one for each step in `measured`; `places` says which of these is nearest to each snapshot.
    """
    rows = [
        {"name": name, "texts": [_fixed(value, digits) for value in training[column]]}
        for (column, name), digits in zip(TRAINING_NAMES.items(), _TRAINING_DIGITS, strict=True)
    ]
    if not trajectory:
        return {"training": rows, "quality": [], "measured": [], "places": []}
    quality = []
    measured = [int(step) for step in trajectory["step"]]
    places = [min(range(len(measured)), key=lambda place: abs(measured[place] - step)) for step in steps]
    for name in [name for name in trajectory if name != "step" and not name.endswith("_std")]:
        deviations = trajectory.get(f"{name}_std", 0 * trajectory[name])
        texts = [with_noise(*pair) for pair in zip(trajectory[name], deviations, strict=True)]
        quality.append({"name": name_of(name), "texts": texts})
    return {"training": rows, "quality": quality, "measured": measured, "places": places}


def with_noise(value, deviation):
    """`value ± deviation` to two digits of the deviation; four digits of the value alone where there is no deviation."""
    if deviation <= 0:
        return f"{value:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(deviation)))
    return f"{value:.{decimals}f} ± {deviation:.{decimals}f}"


def _fixed(value, digits):
    """`value` to so many decimals, or to four digits where it is so large that the decimals say nothing."""
    return f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.4g}"


def flatten(section, prefix=""):
    """The rows (dotted name, value as JSON) of a section of parameters."""
    rows = []
    for key, value in section.items():
        if isinstance(value, dict):
            rows += flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", json.dumps(value, ensure_ascii=False, default=str)))
    return rows
