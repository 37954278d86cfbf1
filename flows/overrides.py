"""Parameter overrides such as `train.steps=1000`: applied to the text of params.yaml, comments kept, and checked before a run."""

import difflib
import functools
import io
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from ruamel.yaml import YAML, YAMLError

from flows.git import git, read_at
from flows.settings import FlowParams
from gan.errors import ParamsError
from gan.params import read_section

PARAMS = "params.yaml"


def read(root, revision=None):
    """The text of params.yaml in the working tree `root`, or as it is at a revision of it."""
    if revision is not None:
        content = read_at(root, git(root, "rev-parse", "--verify", f"{revision}^{{commit}}"), PARAMS)
        if content is None:
            raise ParamsError(f"{revision} has no {PARAMS}")
        return content.decode()
    try:
        return (Path(root) / PARAMS).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamsError(f"{root} has no {PARAMS}; run from the project's root") from None


def apply(text, overrides):
    """The YAML `text` with `overrides` (strings "section.key=value") applied; raises ParamsError for a key that is not there."""
    if not overrides:
        return text
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    content = yaml.load(text)
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key.strip():
            raise ParamsError(f"override {override!r}: expected section.key=value, such as train.steps=1000")
        _set(content, key.strip(), _parse(value, override))
    buffer = io.StringIO()
    yaml.dump(content, buffer)
    return buffer.getvalue()


def settings_of(text):
    """The `flow:` section of the parameters in `text`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / PARAMS
        file.write_text(text, encoding="utf-8")
        return read_section(file, "flow", FlowParams)


@functools.cache
def check(command, text, root):
    """Run the project's parameter check `command` in `root` on the parameters `text`; raises ParamsError with its one line."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / PARAMS
        file.write_text(text, encoding="utf-8")
        words = [word.replace("{file}", str(file)) for word in shlex.split(command)]
        if words[0] == "python":
            words[0] = sys.executable
        done = subprocess.run(words, cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"`{command}` ended with exit code {done.returncode}"]
        raise ParamsError(lines[-1].replace(str(file), PARAMS))


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
