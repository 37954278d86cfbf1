"""Comparing runs by the program: a tiny project with real git, real DVC and real generators."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gan.params import parse_yaml
from tests.helpers.program import gan_here

ROOT = Path(__file__).resolve().parents[2]
METRICS = "data/evaluation/metrics.json"
DVC = f"""
stages:
  train:
    cmd: "true"
    params: [train]
    outs: [data/model, data/evaluation/trajectory.csv]
    metrics:
      - {METRICS}: {{cache: false}}
"""

pytestmark = pytest.mark.slow


def run(folder, *line):
    names = {f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", **names}
    return subprocess.run(line, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


def gan(folder, *arguments):
    """(exit code, standard output, standard error) of the program."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "commands", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def write_run(folder, *, seed, steps, fid, conditional=False):
    """What training and evaluation leave, and params.yaml."""
    from gan.keras_files import save_model
    from gan.training.networks import build_generator

    for path in ("data/model", "data/evaluation"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    model = build_generator(latent_dim=4, units=[8], leaky_slope=0.2, seed=seed, conditional=conditional)
    save_model(model, folder / "data/model/generator.keras")
    rows = "".join(f"{step},{1 + seed},{0.5 + seed},50\n" for step in range(steps))
    (folder / "data/model/history.csv").write_text("step,g_loss,d_loss,d_accuracy\n" + rows)
    (folder / "data/evaluation/trajectory.csv").write_text(f"step,fid,fid_std\n1,{2 * fid},0.5\n{steps},{fid},0.3\n")
    (folder / METRICS).write_text(json.dumps({"fid": fid, "fid_std": 0.3, "classes": 10}))
    params = (ROOT / "params.yaml").read_text()
    (folder / "params.yaml").write_text(
        params.replace("steps: 5001 ", f"steps: {steps} ").replace("seed_spread: 0.08", "seed_spread: 0.0")
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory, tensorflow):
    """Two commits, tagged old and new, with a run each."""
    folder = tmp_path_factory.mktemp("two-runs") / "a prøject"
    folder.mkdir()
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, sys.executable, "-m", "dvc", "init", "-q")
    (folder / "dvc.yaml").write_text(DVC)
    (folder / ".gitignore").write_text("/data/model\n/data/evaluation/trajectory.csv\n")
    for tag, seed, steps, fid in (("old", 0, 5, 10.0), ("new", 1, 7, 11.0)):
        write_run(folder, seed=seed, steps=steps, fid=fid)
        run(folder, sys.executable, "-m", "dvc", "commit", "-q", "-f")
        run(folder, "git", "add", "-A")
        run(folder, "git", "commit", "-qm", tag)
        run(folder, "git", "tag", tag)
    return folder


@pytest.fixture
def project(template, tmp_path):
    shutil.copytree(template, tmp_path / "a prøject")
    return tmp_path / "a prøject"


def test_two_runs_are_printed_and_shown_on_a_page(project):
    code, output, errors = gan(project, "versions", "compare", "old", "new", "--page")
    assert (code, errors) == (0, "")
    rows = [re.split(" {2,}", line) for line in output.splitlines()]
    # two noises of 0.3 make 0.424 of a difference, and two of those are 0.849
    assert rows[:3] == [
        ["metric", "old", "new", "change", "more than noise"],
        ["fid", "10.00 ± 0.30", "11.00 ± 0.30", "+1.00", "yes"],
        ["classes", "10", "10", "0", "–"],
    ]
    assert "worse by 1.00, more than the 0.85 that noise explains." in output
    assert "  train.steps: 5 -> 7\n" in output and output.endswith("\ncomparison.html\n")
    page = (project / "comparison.html").read_text()
    assert page.count("<img ") == 3 and page.count("<svg ") == 4 and "have drawn the same latents" in page
    whole = page.replace("<wbr>", "")  # where a long name may be broken
    assert "<code>train.steps</code></th><td><code>5</code></td><td><code>7</code>" in whole
    first = page.encode()
    assert gan(project, "versions", "compare", "old", "new", "--page", "again.html")[0] == 0
    assert (project / "again.html").read_bytes() == first


def test_the_working_tree_is_compared_with_its_edits(project):
    write_run(project, seed=2, steps=9, fid=10.5, conditional=True)
    done = gan_here(project, "versions", "compare", "old", ".", "--page", "page.html")
    assert done.exit_code == 0 and "train.steps: 5 -> 9" in done.stdout
    assert "no more than the 0.85 that noise explains" in done.stdout
    assert done.stderr.startswith("The results of the working tree were made with other values of train.steps: ")
    page = (project / "page.html").read_text()
    assert "Only one of them is class-conditional" in page and page.count("<img ") == 2
    # what is read without the warnings says so as well
    older = "The results of {} were made with other parameters and files than it has. {} went from "
    assert "\n" + older.format("the working tree", "fid") in done.stdout and older.format("the working tree", "FID") in page
    assert "**" + older.format("`the working tree`", "`fid`") in gan(project, "report-change", "old", ".")[1]
    numbers = json.loads(gan(project, "report-change", "old", ".", "--json")[1])
    assert numbers["verdict"].startswith(older.format("the working tree", "fid"))
    assert numbers["new"]["stale"] == ["train.steps", METRICS] and numbers["old"]["stale"] == []


def test_other_judges_are_named_and_their_spread_counts(project):
    (project / "dvc.yaml").write_text(DVC.replace("outs: [", "outs: [data/judge/judge.keras, "))
    (project / ".gitignore").write_text((project / ".gitignore").read_text() + "/data/judge\n")
    for name in ("one", "another"):
        (project / "data/judge").mkdir(exist_ok=True)
        (project / "data/judge/judge.keras").write_text(name)
        run(project, sys.executable, "-m", "dvc", "commit", "-q", "-f")
        run(project, "git", "add", "-A")
        run(project, "git", "commit", "-qm", name)
        run(project, "git", "tag", name)
        write_run(project, seed=1, steps=7, fid=13.0)
    code, output, errors = gan(project, "versions", "compare", "one", "another")
    assert code == 0 and errors.startswith("Different judges have measured the two runs, which alone moves fid by about 6 %")
    # 2 * hypot(0.3, 0.06 * 11, 0.3, 0.06 * 13) is 2.2; without the judges' spread it is 0.85
    assert "worse by 2.0, no more than the 2.2 that noise explains." in output


@pytest.mark.slow(seconds=8)
def test_the_change_report_links_its_pictures(project):
    code, text, errors = gan(project, "report-change", "old", "new", "--markdown", "--pictures", "report/pictures")
    assert (code, errors) == (0, "")
    assert "| FID | 10.00 ± 0.30 | 11.00 ± 0.30 | +1.00 | +0.15 to +1.85 | yes |" in text
    assert "- `train.steps`: `5` → `7`" in text and "`fid` went from 10.00 ± 0.30 to 11.00 ± 0.30" in text
    links = re.findall(r"!\[.*?\]\(<(.*?)>\)", text)
    assert links == ["report/pictures/digits.png", "report/pictures/curves.png"]
    assert all((project / link).read_bytes().startswith(b"\x89PNG") for link in links)
    there = gan_here(project, "report-change", "old", "new", "--pictures", "p", "--links", "https://example.org/a b/").stdout
    assert "(<https://example.org/a%20b/digits.png>)" in there
    embedded = gan_here(project, "report-change", "old", "new", "--embed").stdout
    assert embedded.count("(<data:image/png;base64,") == 2


def test_the_change_report_needs_no_data(project):
    shutil.rmtree(project / ".dvc/cache")
    code, text, errors = gan(project, "report-change", "old", "new", "--pictures", "pictures")
    assert (code, errors) == (0, "") and "| FID |" in text
    assert "no data/model/generator.keras of old: " in text and "no data/model/history.csv of new: " in text
    assert "![" not in text and not (project / "pictures").exists()
    numbers = json.loads(gan(project, "report-change", "old", "new", "--json")[1])
    assert numbers["parameters"] == [{"name": "train.steps", "old": "5", "new": "7"}]
    assert numbers["metrics"][0]["beyond_noise"] is True and numbers["metrics"][0]["change"] == 1.0


def test_damaged_data_are_a_line_in_the_report_and_an_error_of_the_page(project):
    for name, content in (("generator.keras", b"no model"), ("history.csv", b"step\nx\n")):
        (project / "data/model" / name).unlink()
        (project / "data/model" / name).write_bytes(content)
    done = gan_here(project, "report-change", "old", ".", "--pictures", "pictures")
    assert done.exit_code == 0 and "data/model/generator.keras of the working tree: not a readable Keras model" in done.stdout
    assert "data/model/history.csv of the working tree: not a table of numbers" in done.stdout
    code, _, errors = gan(project, "versions", "compare", "old", ".", "--page")
    assert code == 1 and errors.startswith("gan: data/model/generator.keras of the working tree: not a readable")
    assert len(errors.splitlines()) == 1 and not (project / "comparison.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["versions", "compare", "old", "nosuch"], "gan: nosuch: no such tag, branch, commit or experiment"),
        (["versions", "compare", "--", "old", "--output=x"], "gan: '--output=x': expected a tag"),
        (["report-change", "--", "-x", "old"], "gan: '-x': expected a tag"),
    ],
)
def test_what_names_no_run_is_one_line(project, arguments, message):
    code, output, errors = gan(project, *arguments)
    assert (code, output) == (1, "") and errors.startswith(message) and len(errors.splitlines()) == 1


@pytest.mark.parametrize("options", [["--links", "x"], ["--embed", "--pictures", "p", "--links", "x"]])
def test_options_that_make_no_sense_together_are_refused(project, options):
    assert gan(project, "report-change", "old", "new", *options)[0] == 2


def test_the_toy_parameters_are_the_projects(template):
    assert parse_yaml((template / "params.yaml").read_text())["flow"]["gate"]["seed_spread"] == 0.0
