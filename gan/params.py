"""Typed, frozen sections of a parameters file: what is unknown, missing, mistyped or out of range is one clear error.

There are no defaults: a value that a run used stands in the file, and so in `dvc params diff`.
"""

import difflib
import typing

import pydantic
from ruamel.yaml import YAML

from gan.errors import ParamsError

PARAMS = "params.yaml"  # in the project's root
MAX_BYTES = 100_000  # of a parameters file; ours has 8,000
MAX_DEPTH = 20  # of its sections and lists in each other


class Section(pydantic.BaseModel):
    """Base of every parameter section: immutable, no unknown keys, no conversion of types."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def read_text(path):
    """The text of the parameters file at `path`; raises ParamsError where there is none, or none that can be parameters."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the repository's root") from None
    except IsADirectoryError:
        raise ParamsError(f"{path}: a folder, not a file") from None
    return decode(content, path)


def decode(content, path):
    """The text of the bytes `content` of a parameters file; raises ParamsError where they can be none."""
    if len(content) > MAX_BYTES:
        raise ParamsError(f"{path}: larger than {MAX_BYTES:,} bytes, which no parameters file is")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: not a text in UTF-8: {error.reason} at byte {error.start}") from None


def parse_yaml(text, path=PARAMS, *, keep_comments=False):
    """The mapping of section names to raw values that the YAML 1.2 `text` holds, by the parser that DVC uses.

    With `keep_comments`, it can be changed and dumped again with its comments and quotes. Raises ParamsError in one line for
    whatever is no such mapping. Anchors, aliases and tags are refused, since a few bytes of them can stand for gigabytes, and so
    is depth.
    """
    try:
        _require_plain(text, path)
        yaml = YAML(typ="rt" if keep_comments else "safe")
        yaml.preserve_quotes = keep_comments
        content = yaml.load(text)
    except ParamsError:
        raise
    except Exception as error:  # ruamel.yaml raises its own YAMLError, but ValueError, KeyError, TypeError and others as well
        raise ParamsError(f"{path}: not valid YAML: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path}: expected sections with keys, got {type(content).__name__}")
    return content


def read_file(path):
    """The mapping of section names to raw values in the file at `path`; raises ParamsError as `parse_yaml` does."""
    return parse_yaml(read_text(path), path)


def read_section(path, name, section_class):
    """Read section `name` of the file at `path` as a `section_class`; raises ParamsError in one line."""
    content = read_file(path)
    if name not in content:
        raise ParamsError(f"{path}: section {name!r} is missing")
    return parse_section(content[name], name, section_class, path)


def parse_section(value, name, section_class, path=PARAMS):
    """Check `value` (what YAML gave for section `name`) and return it as a `section_class`."""
    if not isinstance(value, dict):
        raise ParamsError(f"{path}: {name} = {value!r}: expected a section with keys")
    try:
        # JSON's strict mode takes 1 for a float and a list for a tuple, which is what YAML's types mean as well
        return section_class.model_validate_json(pydantic.TypeAdapter(dict).dump_json(value))
    except pydantic.ValidationError as error:
        raise ParamsError(f"{path}: {'; '.join(_describe(item, name, section_class) for item in error.errors())}") from None
    except ValueError as error:  # what JSON cannot hold, such as bytes or a section that holds itself
        raise ParamsError(f"{path}: {name}: {error}") from None


def _require_plain(text, path):
    """Look at the events of the text before anything is built of them: that takes neither memory nor recursion."""
    depth = documents = 0
    for event in YAML(typ="safe").parse(text):
        kind = type(event).__name__
        documents += kind == "DocumentStartEvent"
        depth += kind in ("MappingStartEvent", "SequenceStartEvent")
        depth -= kind in ("MappingEndEvent", "SequenceEndEvent")
        if documents > 1:
            raise ParamsError(f"{path}: expected one YAML document, got several")
        if depth > MAX_DEPTH:
            raise ParamsError(f"{path}: sections or lists more than {MAX_DEPTH} deep in each other")
        if getattr(event, "anchor", None) is not None:
            raise ParamsError(f"{path}: has an anchor or alias, {event.anchor!r}; write the value out")
        if getattr(event, "tag", None) is not None:
            raise ParamsError(f"{path}: has a tag, {str(event.tag)!r}; write the plain value")


def _describe(item, name, section_class):
    key = ".".join([name, *map(str, item["loc"])])
    if item["type"] == "missing":
        return f"{key} is missing"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(item["loc"][-1]), _known_keys(section_class, item["loc"][:-1]), n=1)
        return f"{key} = {item['input']!r} is unknown" + (f"; did you mean {near[0]}?" if near else "")
    message = item["msg"].removeprefix("Value error, ")
    if len(item["loc"]) == 0:
        return f"{name}: {message}"
    return f"{key} = {item['input']!r}: {message[0].lower()}{message[1:]}"


def _known_keys(section_class, location):
    """The keys that a `section_class` has at `location`, a path of keys in it; none where there is no section."""
    found = section_class
    for key in location:
        fields = getattr(found, "model_fields", None)
        found = fields[key].annotation if fields else (typing.get_args(found) or (None,))[-1]  # of a list, or a mapping's values
    return getattr(found, "model_fields", ())
