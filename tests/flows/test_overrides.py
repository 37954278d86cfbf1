"""Overrides of parameters in the text of params.yaml."""

from flows import overrides


def test_overrides_keep_comments_and_types():
    text = "a:\n  b: 1  # one\n  c: x\n"
    assert overrides.apply(text, ["a.b=2.5", "a.c='1'"]) == "a:\n  b: 2.5 # one\n  c: '1'\n"
    assert overrides.apply(text, []) == text
