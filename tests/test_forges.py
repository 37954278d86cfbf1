"""The examples for forges: their scripts run, in a real repository with a real remote and a stand-in for the forge's program."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.helpers.toy_project import make_project

ROOT = Path(__file__).resolve().parents[1]
GITHUB = YAML(typ="safe").load(ROOT / ".github/workflows/change-report.yml")
GITLAB = YAML(typ="safe").load(ROOT / ".gitlab-ci.yml")["change-report"]
STEPS = GITHUB["jobs"]["report"]["steps"]
SCRIPTS = {step["name"]: step["run"] for step in STEPS if "run" in step}


@pytest.mark.parametrize("script", [*SCRIPTS.values(), *GITLAB["script"]])
def test_every_script_is_one_of_bash(script):
    subprocess.run(["bash", "-n", "-c", script], check=True, capture_output=True)
    assert "${{" not in script, "an expression in a script would run what a pull request's author writes into it"


def test_only_the_forges_own_actions_are_used():
    assert [step["uses"] for step in STEPS if "uses" in step] == [
        "actions/checkout@v4",
        "actions/setup-python@v5",
        "actions/cache@v4",
    ]
    assert "pull_request_target" not in GITHUB[True if True in GITHUB else "on"]


@pytest.fixture(scope="module")
def trained_longer(tmp_path_factory):
    """A project with a change on a branch, and its results; to be copied."""
    project = make_project(tmp_path_factory.mktemp("change"), ran=True)
    project.git("switch", "--quiet", "--create", "change")
    project.set("steps: 3", "steps: 4")
    project.run("dvc", "repro", "--quiet")
    project.commit("Train longer")
    return project


@pytest.fixture
def change(trained_longer, tmp_path):
    """A clone in which a change is under review, (project, base, head), with the programs that the scripts call."""
    project = make_project(tmp_path)
    shutil.rmtree(project.root)
    shutil.copytree(trained_longer.root, project.root, symlinks=True)
    project.run("git", "init", "--quiet", "--bare", str(tmp_path / "origin.git"))
    project.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    binaries = project.root / ".venv/bin"
    binaries.mkdir(parents=True)
    (binaries / "gan").write_text(f'#!/bin/sh\nexec {sys.executable} -m commands "$@"\n')
    (binaries / "dvc").symlink_to(Path(sys.executable).parent / "dvc")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, answer in (("gh", '[ "$2" = --paginate ] && cat "$ANSWER"'), ("curl", "true"), ("make", "true")):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "$CALLS"\n{answer}\nexit 0\n')
    for program in [*programs.iterdir(), binaries / "gan"]:
        program.chmod(0o755)
    (tmp_path / "answer").write_text("")
    project.environment |= {
        "PATH": f"{programs}:{project.environment['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "ANSWER": str(tmp_path / "answer"),
    }
    return project, project.git("rev-parse", "main"), project.git("rev-parse", "HEAD")


def bash(project, script):
    """Run a script as the forges do: it ends at the first command that fails."""
    return project.run("bash", "-e", "-o", "pipefail", "-c", script)


@pytest.mark.slow
def test_the_steps_of_github_write_push_and_comment(change, tmp_path):
    project, base, head = change
    project.environment |= {
        "BASE": base,
        "HEAD": head,
        "NUMBER": "7",
        "GITHUB_SERVER_URL": "https://forge.example",
        "GITHUB_REPOSITORY": "team/project",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "RUNNER_TEMP": str(tmp_path),
    }
    for name in ("Make the environment", "Fetch the results", "Write the report"):
        bash(project, SCRIPTS[name])
    text = (project.root / "report.md").read_text()
    assert text.startswith("<!-- change report -->\n## ") and "- `train.steps`: `3` → `4`" in text
    assert (tmp_path / "summary.md").read_text() == text
    links = re.findall(r"\(<https://forge.example/team/project/raw/change-report-7/(.*?)>\)", text)
    assert links == [f"{head}/curves.png"]  # a toy has no generator, and the report says so

    bash(project, SCRIPTS["Push the pictures"])
    pushed = project.git("ls-remote", "origin", "refs/heads/change-report-7").split()[0]
    assert project.git("ls-tree", "-r", "--name-only", pushed).splitlines() == links
    assert project.git("status", "--short", "--", "data", "params.yaml") == ""

    calls = tmp_path / "calls"
    bash(project, SCRIPTS["Comment"])
    assert calls.read_text().splitlines()[-1] == "gh pr comment 7 --body-file report.md"
    (tmp_path / "answer").write_text("123\n456\n")
    bash(project, SCRIPTS["Comment"])
    assert "--method PATCH repos/team/project/issues/comments/123 --field body=@report.md" in calls.read_text().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("token", ["", "secret"])
def test_the_job_of_gitlab_writes_its_note(change, tmp_path, token):
    project, base, head = change
    project.environment |= {
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": base,
        "CI_COMMIT_SHA": head,
        "CI_JOB_URL": "https://forge.example/team/project/-/jobs/9",
        "CI_API_V4_URL": "https://forge.example/api/v4",
        "CI_PROJECT_ID": "5",
        "CI_MERGE_REQUEST_IID": "7",
        "REPORT_TOKEN": token,
    }
    bash(project, "\n".join(GITLAB["script"]))
    text = (project.root / "report.md").read_text()
    assert "(<https://forge.example/team/project/-/jobs/9/artifacts/raw/change-report/curves.png>)" in text
    assert all((project.root / path).exists() for path in GITLAB["artifacts"]["paths"])
    sent = [line for line in (tmp_path / "calls").read_text().splitlines() if line.startswith("curl")]
    assert len(sent) == bool(token)
    assert not sent or sent[0].endswith(
        "--data-urlencode body@report.md https://forge.example/api/v4/projects/5/merge_requests/7/notes"
    )


def test_the_files_of_the_examples_are_ignored_by_git():
    lines = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/report.md", "/change-report/", "/comparison.html", ".venv/"} <= set(lines)
    assert os.path.basename(GITLAB["artifacts"]["paths"][0]) == "report.md"
