"""Command lines of the program `gan`, and names of git that are none."""

import contextlib
import functools
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st

from gan.errors import UserError
from tests.soak.case import AcceptedWrongly, Kind, RefusedWrongly
from tests.soak.frame import ROOT
from tests.soak.kinds.parameters import NASTY_VALUES

REFERENCES = (
    "HEAD",
    "main",
    "nosuch",
    "HEAD~1",
    "HEAD:params.yaml",
    "@{-1}",
    "@{upstream}",
    "@",
    "",
    " ",
    "\n",
    "..",
    "HEAD..HEAD",
    "HEAD...",
    "^HEAD",
    "refs/heads/main",
    "x" * 5000,
    ":/first",
    "HEAD^{/x}",
    "HEAD^{tree}",
    "HEAD^@",
    "-",
    "--",
    "-h",
    "--help",
    "--all",
    "--git-dir=..",
    "--output=../outside/ran",
    "--upload-pack=touch ../outside/ran",
    "-c core.pager=touch",
    "--exec=touch ../outside/ran",
    "--show-toplevel",
    "ext::sh -c touch% ../outside/ran",
    "--local-env-vars",
    "\udcff",
    "\x1b[2J",
    "a b",
    "$(touch ../outside/ran)",
    "`touch ../outside/ran`",
    ";touch ../outside/ran",
    "HEAD\n--all",
    ".",
    "workspace",
    "0" * 40,
    "f" * 41,
    "*",
    "refs/exps/x",
    "%00",
    "v1",
    "../outside/canary",
    "/etc/passwd",
    "file:///etc/passwd",
)
references = (
    st.sampled_from(REFERENCES)
    | st.text(max_size=12).filter(lambda text: "\x00" not in text)
    | st.text(max_size=8).map("-{}".format).filter(lambda text: "\x00" not in text)
)
words = st.one_of(
    st.sampled_from([value for value in NASTY_VALUES if "\x00" not in value]),
    references,
    st.sampled_from(["1", "2026", "a.png", "params.yaml", "nowhere/a.png", "sets", ".", "/", "/dev/null", "/dev/zero"]),
)
digits = st.sampled_from(["2026", "0", " ", "", "12a", "٣", "²", "many", "-1", "1\n2", "\udcff", "１"]) | st.text(
    max_size=5
).filter(lambda text: "\x00" not in text)
OPTIONS = {
    "check": ["--params"],
    "sets": ["--params"],
    "use": ["--params"],
    "draw": ["--out", "--seed", "--scale", "--version"],
    "flow": ["--no-such"],
    "schedule": ["--no-such"],
    "versions": ["--no-such", "--json"],
    "report-change": ["--seed", "--links", "--pictures", "--json", "--no-such"],
    "nosuch": ["--x"],
}


def _line(command):
    option = st.tuples(st.sampled_from([*OPTIONS[command], "--help", "-h", "--", "-x"]), words)
    return st.fixed_dictionaries(
        {
            "command": st.just(command),
            "arguments": st.lists(words, max_size=3) if command not in ("flow", "schedule") else st.just(["--no-such"]),
            "options": st.lists(option.map(list), max_size=3) if command not in ("flow", "schedule") else st.just([]),
        }
    )


draw_line = st.fixed_dictionaries(
    {
        "command": st.just("draw"),
        "arguments": st.tuples(digits).map(list),
        "options": st.tuples(
            st.just(["--out", "out/a.png"]),
            st.tuples(st.just("--scale"), st.sampled_from(["1", "4", "64", "65", "0", "-1", "x", "1e3", "9" * 50])).map(list),
            st.tuples(st.just("--seed"), st.sampled_from(["0", "-1", "x", "9" * 50, "1.5", ""])).map(list),
        ).map(list),
    }
)
version_line = st.fixed_dictionaries(
    {
        "command": st.just("versions"),
        "arguments": st.tuples(st.sampled_from(["show", "compare", "nosuch", "list"]), references, references).map(list),
        "options": st.just([]),
    }
)
change_line = st.fixed_dictionaries(
    {"command": st.just("report-change"), "arguments": st.tuples(references, references).map(list), "options": st.just([])}
)
reference_line = st.fixed_dictionaries(
    {
        "command": st.just("draw"),
        "arguments": st.just(["2026"]),
        "options": st.tuples(st.just(["--out", "out/a.png"]), st.tuples(st.just("--version"), references).map(list)).map(list),
    }
)
lines = st.one_of(st.sampled_from(list(OPTIONS)).flatmap(_line), draw_line, version_line, change_line, reference_line)


@functools.cache
def project():
    """A folder that is a git and DVC repository with a model, made once; cases get copies of it."""
    from tests.soak.kinds.keras_models import models

    folder = Path(tempfile.mkdtemp(prefix="project-"))
    (folder / "data/model").mkdir(parents=True)
    (folder / "data/model/generator.keras").write_bytes(models()["conditional"])
    (folder / "data/metrics.json").write_text(json.dumps({"fid": 1.5, "fid_std": 0.1}))
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copytree(ROOT / "sets", folder / "sets")
    (folder / ".gitignore").write_text("/out\n")
    git = ["git", "-c", "user.name=soak", "-c", "user.email=soak@localhost"]
    for command in (
        [*git, "init", "--quiet", "--initial-branch=main"],
        [sys.executable, "-m", "dvc", "init", "--quiet"],
        [*git, "add", "-A"],
        [*git, "commit", "--quiet", "-m", "first"],
        [*git, "commit", "--quiet", "--allow-empty", "-m", "second"],
        [*git, "tag", "v1"],
    ):
        subprocess.run(command, cwd=folder, check=True)
    shutil.rmtree(folder / ".git/hooks", ignore_errors=True)
    return folder


def run_line(case, folder):
    """`gan` in a project's folder."""
    from commands.__main__ import main

    here = folder / "project"
    shutil.copytree(project(), here, symlinks=True)
    arguments = ["1" * 200_000 if word == "many" else word for word in case["arguments"]]
    argv = ["gan", case["command"], *arguments, *(word for option in case["options"] for word in option)]
    out, err = io.StringIO(), io.StringIO()
    code = None
    with (
        contextlib.chdir(here),
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as error:
            code = error.code
    if isinstance(code, str):
        message = code.removeprefix("gan: ")
        if "\n" in message or not message.isprintable():
            raise UserError(message) if message != str(UserError(message)) else AcceptedWrongly(message)
        raise UserError(message)
    said = err.getvalue().strip().splitlines()
    if code:
        if not said or "Traceback" in err.getvalue():
            raise AcceptedWrongly(f"exit code {code}, and said {said}")
        if not all(line.isprintable() for line in said):
            raise AcceptedWrongly(f"said {said!r}")
        raise UserError(said[-1])
    good = case == {
        "command": "draw",
        "arguments": ["2026"],
        "options": [["--out", "out/a.png"], ["--scale", "4"], ["--seed", "0"]],
    }
    if good and not (here / "out/a.png").is_file():
        raise RefusedWrongly("drew nothing")


def run_reference(case, folder):
    """A name that git may or may not know: a commit, or one line."""
    from flows import revisions
    from flows.git import Repository

    here = folder / "project"
    shutil.copytree(project(), here, symlinks=True)
    found = revisions.find(Repository(here), case)
    if found.commit is not None and not re.fullmatch("[0-9a-f]{40}", found.commit):
        raise AcceptedWrongly(f"took {found.commit!r} for a commit")
    if case.startswith("-"):
        raise AcceptedWrongly("took an option for a name")
    found.params()
    Repository(here).read_at(found.commit or "HEAD", "params.yaml")


def run_commit_id(case, folder):
    """The base of a run, as the flow takes it from `--base`."""
    from flows.git import Repository

    here = folder / "project"
    shutil.copytree(project(), here, symlinks=True)
    found = Repository(here).commit_id(case)
    if not re.fullmatch("[0-9a-f]{40}", found):
        raise AcceptedWrongly(f"took {found[:100]!r} for a commit")


def _warm_up():
    from tests.soak.kinds import keras_models

    keras_models.KINDS["models"].warm_up()
    import dvc.api

    import flows.revisions  # noqa: F401

    project()
    with contextlib.suppress(Exception):
        dvc.api.read("nowhere", repo=str(project()))


KINDS = {
    "command lines": Kind(lines, run_line, _warm_up, group="keras", spawns=True, share=3),
    "references of git": Kind(references, run_reference, _warm_up, group="keras", spawns=True, share=1),
    "bases of runs": Kind(references, run_commit_id, _warm_up, group="keras", spawns=True, share=0.7),
}
