"""A wrong parameters file is one line that names the key, the value and what is allowed."""

import contextlib
from pathlib import Path

import numpy as np
import pydantic
import pytest
from pydantic import Field

from gan.errors import ParamsError
from gan.params import Section, parse_section, parse_yaml, read_file, read_section, read_text

ROOT = Path(__file__).resolve().parents[2]


class Inner(Section):
    rate: float = Field(gt=0, le=1)


class Other(Section):
    slope: float


class Params(Section):
    steps: int = Field(ge=1)
    rate: float
    name: str
    fast: bool
    widths: list[int]
    inner: Inner
    others: dict[str, Inner]
    either: tuple[Inner | Other, ...]


RIGHT = {"steps": 5, "rate": 0.5, "name": "a", "fast": True, "widths": [1, 2], "inner": {"rate": 1}, "others": {}, "either": ()}


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
        ({"inner": {"rate": 1, "ratte": 2}}, "params.yaml: train.inner.ratte = 2 is unknown; did you mean rate?"),
        ({"others": {"a": {"rate": 1, "ratte": 2}}}, "params.yaml: train.others.a.ratte = 2 is unknown; did you mean rate?"),
        ({"either": [{"rate": 1, "ratte": 2}]}, "params.yaml: train.either.0.Inner.ratte = 2 is unknown; train.either.0.Other."),
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


@pytest.mark.parametrize("text", ["", "just words\n", "- a\n- b\n"])
def test_a_file_without_sections(tmp_path, text):
    assert "expected sections with keys, got " in error_of(read_file, write(tmp_path, text))


@pytest.mark.parametrize("text", ["train:\n  ? [steps, rate]\n  : 3\n", "train:\n  ? {steps: 1}\n  : 3\n"])
def test_what_json_cannot_hold(tmp_path, text):
    path = write(tmp_path, text)
    assert error_of(read_section, path, "train", Params).startswith(f"{path}: ")


HOSTILE = {
    "a tag whose value fits no type": "a: !!int abc",
    "a tag that asks for a class": "a: !!python/object:os.system {}",
    "a day that no month has": "a: 2020-13-45",
    "more digits than Python converts": "a: " + "9" * 5000,
    "aliases that multiply": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "lists 1,000 deep": "a: " + "[" * 1000 + "]" * 1000,
    "lists 90,000 deep": "[" * 90_000,
    "dashes alone": "- - - -",
    "40,000 dashes": "- " * 40_000,
    "99,000 hashes": "#" * 99_000,
    "nothing": "",
    "two documents": "a: 1\n---\nb: 2",
    "a NUL": "a: \0",
    "a tab": "a:\n\t- b",
    "one word": "hello",
    "a key twice": "a: 1\na: 2",
    "bytes": "a: !!binary abc",
    "an open quote": "a: 'x",
    "two colons": "a: b: c",
    "another version of YAML": "%YAML 9.9\n---\na: 1",
    "half a character": 'a: "\\ud800"',
    "a list": "[a, b]",
    "more bytes than any": "a: " + "x" * 200_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.timeout(10)
def test_what_is_no_parameters_file_is_one_line(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for keep_comments in (False, True):
        with pytest.raises(ParamsError) as caught:
            parse_yaml(read_text(path), path, keep_comments=keep_comments)
        assert str(caught.value).startswith(f"{path}: ")
        assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 600


@pytest.mark.parametrize("content", ["a: ä".encode("utf-16"), b"a: \xff", b"\x00" * 50, bytes(range(256))])
def test_bytes_that_are_no_text_are_one_line(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=r"params.yaml: (not a text in UTF-8|not valid YAML)"):
        read_file(path)


@pytest.mark.slow
def test_no_bit_flip_of_the_parameters_is_more_than_one_line(tmp_path):
    """Either it is still a mapping, or the error is ours."""
    original = (ROOT / "params.yaml").read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "params.yaml"
    for position, bit in zip(random.integers(0, len(original), 300), random.integers(0, 8, 300), strict=True):
        changed = bytearray(original)
        changed[position] ^= 1 << bit
        path.write_bytes(changed)
        for keep_comments in (False, True):
            with contextlib.suppress(ParamsError):
                assert isinstance(parse_yaml(read_text(path), path, keep_comments=keep_comments), dict)
