"""A wrong parameters file is one line that names the key, the value and what is allowed."""

import pydantic
import pytest
from pydantic import Field

from gan.errors import ParamsError
from gan.params import Section, parse_section, read_file, read_section


class Inner(Section):
    rate: float = Field(gt=0, le=1)


class Params(Section):
    steps: int = Field(ge=1)
    rate: float
    name: str
    fast: bool
    widths: list[int]
    inner: Inner


RIGHT = {"steps": 5, "rate": 0.5, "name": "a", "fast": True, "widths": [1, 2], "inner": {"rate": 1}}


def parse(**changes):
    return parse_section(RIGHT | changes, "train", Params)


def error_of(call, *arguments, **changes):
    with pytest.raises(ParamsError) as caught:
        call(*arguments, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(folder, text):
    (folder / "params.yaml").write_text(text)
    return folder / "params.yaml"


def test_a_right_section_becomes_a_typed_object():
    params = parse()
    assert params.model_dump() == RIGHT
    assert isinstance(params.inner.rate, float)  # YAML's 1 is a float's value as well


def test_a_section_cannot_be_changed():
    with pytest.raises(pydantic.ValidationError):
        parse().steps = 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "params.yaml: train.steps = 0: input should be greater than or equal to 1"),
        ({"steps": "5"}, "params.yaml: train.steps = '5': input should be a valid integer"),
        ({"steps": 5.5}, "params.yaml: train.steps = 5.5: input should be a valid integer"),
        ({"steps": True}, "params.yaml: train.steps = True: input should be a valid integer"),
        ({"steps": None}, "params.yaml: train.steps = None: input should be a valid integer"),
        ({"rate": "fast"}, "params.yaml: train.rate = 'fast': input should be a valid number"),
        ({"rate": float("nan")}, "params.yaml: train.rate = None: input should be a valid number"),
        ({"rate": float("inf")}, "params.yaml: train.rate = None: input should be a valid number"),
        ({"name": 5}, "params.yaml: train.name = 5: input should be a valid string"),
        ({"fast": 1}, "params.yaml: train.fast = 1: input should be a valid boolean"),
        ({"fast": "yes"}, "params.yaml: train.fast = 'yes': input should be a valid boolean"),
        ({"widths": [1, "b"]}, "params.yaml: train.widths.1 = 'b': input should be a valid integer"),
        ({"inner": {"rate": 2}}, "params.yaml: train.inner.rate = 2: input should be less than or equal to 1"),
        ({"inner": {}}, "params.yaml: train.inner.rate is missing"),
        ({"step": 5}, "params.yaml: train.step = 5 is unknown; did you mean steps?"),
        ({"zzz": 5}, "params.yaml: train.zzz = 5 is unknown"),
    ],
)
def test_each_mistake_names_key_value_and_what_is_allowed(changes, message):
    assert error_of(parse, **changes).startswith(message)


def test_a_missing_key_is_no_default():
    assert error_of(parse_section, {"steps": 5}, "train", Params).startswith("params.yaml: train.rate is missing; train.name is")


def test_several_mistakes_stand_in_one_line():
    message = error_of(parse, steps=0, name=5)
    assert "train.steps = 0" in message and "train.name = 5" in message


@pytest.mark.parametrize("value", [None, 5, "text", [1, 2]])
def test_a_section_without_keys(value):
    assert error_of(parse_section, value, "train", Params) == f"params.yaml: train = {value!r}: expected a section with keys"


def test_a_file_is_read_by_section(tmp_path):
    path = write(tmp_path, "inner:\n  rate: 0.25  # of learning\nother: {}\n")
    assert read_section(path, "inner", Inner).rate == 0.25


def test_yaml_is_read_as_dvc_reads_it(tmp_path):
    # YAML 1.2, where 1e-7 is a number and `no` a string; a YAML 1.1 parser takes them for a string and false
    assert read_file(write(tmp_path, "a: 1e-7\nb: no\nc: 0o17\n")) == {"a": 1e-7, "b": "no", "c": 15}


def test_a_missing_section(tmp_path):
    path = write(tmp_path, "other: {}\n")
    assert error_of(read_section, path, "train", Params) == f"{path}: section 'train' is missing"


def test_a_missing_file(tmp_path):
    assert "no such file; run from the repository's root" in error_of(read_file, tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["a: [1, 2", "a: 1\na: 2\n", "a: 'x\n", "\t- a"])
def test_a_file_that_is_not_yaml(tmp_path, text):
    assert "params.yaml: not valid YAML: " in error_of(read_file, write(tmp_path, text))


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"a: \xff\xfe")
    assert "params.yaml: not valid YAML: " in error_of(read_file, tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["", "just words\n", "- a\n- b\n"])
def test_a_file_without_sections(tmp_path, text):
    assert "expected sections with keys, got " in error_of(read_file, write(tmp_path, text))


@pytest.mark.parametrize("text", ["train: &train\n  steps: *train\n", "train:\n  steps: !!binary /w==\n"])
def test_what_json_cannot_hold(tmp_path, text):
    path = write(tmp_path, text)
    assert error_of(read_section, path, "train", Params).startswith(f"{path}: train: ")
