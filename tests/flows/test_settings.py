"""The section `flow` of params.yaml: what a run would stumble over at its end is refused at its beginning."""

import re
from pathlib import Path

import pytest

from flows.request import Parameters
from gan.errors import ParamsError
from tests.helpers.toy_project import PARAMS

PICTURES = "[data/gallery/final.png, data/gallery/img-*.png]"


@pytest.mark.parametrize("pattern", ["", ".", "/data/gallery/final.png", "../final.png", "data/gallery/..", "data/**.png"])
def test_a_pattern_of_pictures_names_files_of_the_project(pattern):
    expected = (
        f"params.yaml: flow.pictures.1 = {pattern!r}: expected a path, or a pattern of paths, relative to the project's root"
    )
    with pytest.raises(ParamsError, match=re.escape(expected)):
        Parameters.of_text(PARAMS.replace(PICTURES, f'[final.png, "{pattern}"]'))


@pytest.mark.parametrize("pattern", ["final.png", "data/*/img-[0-9].png", "data/**/final.png", "data/**"])
def test_patterns_that_are_accepted_can_be_looked_for(pattern, tmp_path):
    settings = Parameters.of_text(PARAMS.replace(PICTURES, f'["{pattern}"]')).settings
    assert settings.pictures == [pattern]
    assert list(Path(tmp_path).glob(pattern)) == []


def test_the_check_is_a_command():
    text = PARAMS.replace("python toy.py check {file}", "python 'toy.py check {file}")
    with pytest.raises(ParamsError, match="flow.check_command = .*: not a command: No closing quotation"):
        Parameters.of_text(text)
