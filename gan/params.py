"""Typed, frozen sections of a parameters file: what is unknown, missing, mistyped or out of range is one clear error.

There are no defaults: a value that a run used stands in the file, and so in `dvc params diff`.
"""

import difflib

import pydantic
from ruamel.yaml import YAML, YAMLError

from gan.errors import ParamsError

PARAMS = "params.yaml"  # in the project's root


class Section(pydantic.BaseModel):
    """Base of every parameter section: immutable, no unknown keys, no conversion of types."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def read_file(path):
    """The mapping of section names to raw values in the YAML 1.2 file at `path` (the parser that DVC uses)."""
    try:
        with open(path, encoding="utf-8") as file:
            content = YAML(typ="safe").load(file)
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the repository's root") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path}: expected sections with keys, got {type(content).__name__}")
    return content


def read_section(path, name, section_class):
    """Read section `name` of the file at `path` as a `section_class`; raises ParamsError in one line."""
    content = read_file(path)
    if name not in content:
        raise ParamsError(f"{path}: section {name!r} is missing")
    return parse_section(content[name], name, section_class, path)


def parse_section(value, name, section_class, path="params.yaml"):
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


def _describe(item, name, section_class):
    key = ".".join([name, *map(str, item["loc"])])
    if item["type"] == "missing":
        return f"{key} is missing"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(item["loc"][-1]), section_class.model_fields, n=1)
        return f"{key} = {item['input']!r} is unknown" + (f"; did you mean {near[0]}?" if near else "")
    message = item["msg"].removeprefix("Value error, ")
    if len(item["loc"]) == 0:
        return f"{name}: {message}"
    return f"{key} = {item['input']!r}: {message[0].lower()}{message[1:]}"
