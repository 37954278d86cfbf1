"""The numbers of metrics files: flat, and two versions' side by side."""


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
