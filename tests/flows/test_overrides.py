"""Overrides of parameters in the text of params.yaml."""

from pathlib import Path

import pytest

from flows import overrides
from flows.git import GitError, Repository
from flows.request import Parameters, RunRequest
from gan.errors import ParamsError


def test_overrides_keep_comments_and_types():
    text = "a:\n  b: 1  # one\n  c: x\n  d: 'y'\n"
    assert overrides.apply(text, ["a.b=2.5", "a.c='1'"]) == "a:\n  b: 2.5 # one\n  c: '1'\n  d: 'y'\n"
    assert overrides.apply(text, []) == text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a.b", "expected section.key=value"),
        ("a.b=" + "9" * 5000, "not valid YAML: Exceeds the limit"),
        ("a.b=1\nother: 2", "expected one value"),
        ("a.b=!!python/object/apply:os.system [true]", "has a tag"),
        ("a.b=&x 1", "has an anchor or alias, 'x'"),
        ("a.b=" + "[" * 30 + "]" * 30, "more than 20 deep"),
        ("a.b='unclosed", "not valid YAML"),
    ],
)
def test_a_value_that_no_file_could_have_is_refused_in_one_short_line(override, message):
    with pytest.raises(ParamsError, match=message.replace("[", r"\[")) as caught:
        overrides.apply("a:\n  b: 1\n", [override])
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected sections with keys, got NoneType"),
        (b"a: [1\n", "not valid YAML"),
        ("flow: 1\n".encode("utf-16"), "not a text in UTF-8"),
        (b"a: 1\n---\nb: 2\n", "expected one YAML document, got several"),
        (b"a: &x 1\nb: *x\n", "has an anchor or alias"),
        (b"a: 1\n", "section 'flow' is missing"),
    ],
)
@pytest.mark.parametrize("given", [(), ("a=2",)])
def test_a_file_that_holds_no_parameters_is_refused_with_and_without_overrides(tmp_path, content, message, given):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(ParamsError, match=message):
        RunRequest(overrides=given, isolated=False).parameters(Repository(tmp_path))


def test_parameters_of_a_text_are_those_of_its_section_flow():
    text = (Path(__file__).parents[2] / "params.yaml").read_text()
    assert Parameters.of_text(text).settings.overlap == "wait"


@pytest.fixture
def repository(tmp_path):
    found = Repository(tmp_path)
    found.git("init", "--quiet", "--initial-branch=main")
    found.git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--allow-empty", "--message=start")
    return found


def test_a_revision_is_a_commits_name(repository):
    commit = repository.git("rev-parse", "HEAD")
    assert [repository.commit_id(name) for name in ("HEAD", "main", "@", commit[:10])] == [commit] * 4


@pytest.mark.parametrize("name", ["--all", "--git-dir", "--help", "-q", "^HEAD", "HEAD..HEAD", "\x00", "\ud800", "", "a" * 5000])
def test_a_revision_that_names_no_commit_is_refused_and_never_an_option(repository, name):
    with pytest.raises(GitError) as caught:
        repository.commit_id(name)
    assert len(str(caught.value)) < 600 and str(caught.value).isprintable()
