"""What a run of the flow may be asked for: parameters in whatever file, overrides, revisions that are none."""

import functools
import re
import subprocess
import tempfile
from pathlib import Path

from hypothesis import strategies as st

from flows.git import Repository
from flows.request import RunRequest
from gan.errors import ParamsError
from gan.params import read_file
from tests.soak.case import AcceptedWrongly, Kind, RefusedWrongly
from tests.soak.kinds.parameters import PARAMS_BYTES, overrides, structural, text_of, textual

_WHOLE_TEXTS = [b"", b"\n", "train: 1\n".encode("utf-16"), b"a: 1\n---\nb: 2\n", b"\xff\xfe", b"[1, 2]\n", b"\x00" * 40, b"- a\n"]
GOOD_REVISIONS = ("HEAD", "main", "@", "v1", "HEAD^{commit}", "main~0")
_OPTIONS = [
    "--all",
    "-h",
    "--help",
    "--version",
    "--output=x",
    "-",
    "--",
    "--end-of-options",
    "--git-dir",
    "--show-toplevel",
    "-q",
]
_NO_COMMITS = ["HEAD:params.yaml", "HEAD^{tree}", "HEAD~5", "@{-1}", "HEAD^!", "HEAD..HEAD", "^HEAD", "refs/heads", "main@{u}"]
_NO_NAMES = ["", " ", "\x00", "HEAD\x00", "HEAD\n", "\ud800", "a" * 5000, "$(touch x)", "; touch x", "../x", ":/first", "*"]
_REVISIONS = st.one_of(
    st.sampled_from(GOOD_REVISIONS), st.sampled_from([*_OPTIONS, *_NO_COMMITS, *_NO_NAMES]), st.text(max_size=20)
)
files = st.one_of(
    structural,
    textual,
    st.sampled_from(_WHOLE_TEXTS).map(lambda content: {"do": "whole", "hex": content.hex()}),
)


def run_parameters(case, folder):
    """`gan flow --set …` on a file that may be broken, as far as the parameters that the run would have."""
    content = bytes.fromhex(case["file"]["hex"]) if case["file"]["do"] == "whole" else text_of(case["file"])
    (folder / "params.yaml").write_bytes(content)
    try:
        parameters = RunRequest(overrides=tuple(case["overrides"]), isolated=False).parameters(Repository(folder))
    except ParamsError as error:
        if content == PARAMS_BYTES and not case["overrides"]:
            raise RefusedWrongly(str(error)) from None
        raise
    (folder / "params.yaml").write_text(parameters.text, encoding="utf-8")
    if "flow" not in read_file(folder / "params.yaml"):
        raise AcceptedWrongly("there is no section flow")


@functools.cache
def _repository():
    folder = Path(tempfile.mkdtemp())
    (folder / "params.yaml").write_bytes(PARAMS_BYTES)
    for command in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "params.yaml"],
        ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--message=start"],
        ["tag", "v1"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return Repository(folder)


def run_revision(case, folder):
    """`gan flow --isolated --base …`, as far as the commit and the parameters that the run would have."""
    repository = _repository()
    try:
        commit = repository.commit_id(case)
    except Exception as error:
        if case in GOOD_REVISIONS:
            raise RefusedWrongly(str(error)) from None
        raise
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise AcceptedWrongly(f"{case!r} became {commit!r}")
    if RunRequest(base=case).parameters(repository).text != PARAMS_BYTES.decode():
        raise AcceptedWrongly("other parameters")


KINDS = {
    "parameters": Kind(st.fixed_dictionaries({"file": files, "overrides": st.just([]) | overrides}), run_parameters, share=30),
    "revisions": Kind(_REVISIONS, run_revision, warm_up=_repository, group="programs", spawns=True, share=10),
}
