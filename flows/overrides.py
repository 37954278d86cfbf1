"""Parameter overrides such as `train.steps=1000`, applied to the text of params.yaml; comments are kept."""

import difflib
import io

from ruamel.yaml import YAML, YAMLError

from gan.errors import ParamsError
from gan.params import PARAMS


def apply(text, overrides):
    """The YAML `text` with `overrides` (strings "section.key=value") applied; raises ParamsError for a key that is not there."""
    if not overrides:
        return text
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    try:
        content = yaml.load(text)
    except YAMLError as error:
        raise ParamsError(f"{PARAMS}: not valid YAML: {' '.join(str(error).split())}") from None
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key.strip():
            raise ParamsError(f"override {override!r}: expected section.key=value, such as train.steps=1000")
        _set(content, key.strip(), _parse(value, override))
    buffer = io.StringIO()
    yaml.dump(content, buffer)
    return buffer.getvalue()


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
    try:
        return YAML(typ="safe").load(value)
    except YAMLError:
        raise ParamsError(f"override {override!r}: the value is not valid YAML") from None
