"""Parameter overrides such as `train.steps=1000`, applied to the text of params.yaml; comments are kept."""

import difflib

from flows.yaml_text import to_yaml
from gan.errors import ParamsError
from gan.params import PARAMS, parse_yaml

_SHOWN_CHARACTERS = 100


def lookup(values, name):
    """The value that the nested dicts `values` have under the dotted `name`; None where there is none."""
    for key in name.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def apply(text, overrides):
    """The YAML `text` with `overrides` (strings "section.key=value") applied.

    Raises ParamsError where the text is no parameters file, and for a key that is not there.
    """
    if not overrides:
        return text
    content = parse_yaml(text, keep_comments=True)
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key.strip():
            raise ParamsError(f"override {_shown(override)}: expected section.key=value, such as train.steps=1000")
        _set(content, key.strip(), _parse(value, override))
    return to_yaml(content)


def _set(content, key, value):
    *parents, last = key.split(".")
    node = content
    for depth, parent in enumerate(parents):
        _require(node, parent, key, ".".join(parents[:depth]))
        node = node[parent]
    _require(node, last, key, ".".join(parents))
    if isinstance(node[last], dict):
        raise ParamsError(f"override {key}: it is a section; give one of {', '.join(f'{key}.{name}' for name in node[last])}")
    node[last] = value


def _require(node, name, key, parent):
    if isinstance(node, dict) and name in node:
        return
    known = list(node) if isinstance(node, dict) else []
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
    prefix = f"{parent}." if parent else ""
    hint = f"; did you mean {' or '.join(prefix + match for match in near)}?" if near else ""
    raise ParamsError(f"override {key}: there is no {prefix}{name} in {PARAMS}{hint}")


def _parse(value, override):
    """What YAML makes of `value`, read as the one value of a file, so that the same is refused as there."""
    content = parse_yaml(f"value: {value}", f"override {_shown(override)}")
    if list(content) != ["value"]:
        raise ParamsError(f"override {_shown(override)}: expected one value")
    return content["value"]


def _shown(override):
    return repr(override if len(override) <= _SHOWN_CHARACTERS else f"{override[:_SHOWN_CHARACTERS]}…")
