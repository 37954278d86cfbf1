import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows import sets
from flows.sets import for_machine, this_machine
from gan import runtime
from gan.errors import UserError
from gan.params import parse_section, parse_yaml, read_file
from gan.runtime import processor_kind
from gan.training.params import TrainParams
from tests.helpers.tensorflow import THREADS

ROOT = Path(__file__).resolve().parents[2]
BEFORE = "fetch:\n  url: somewhere   # a comment\n\n# about training\n"
AFTER = "\n# about the rest\nevaluate:\n  seed: 0\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "sets", tmp_path / "sets")
    text = (ROOT / "sets/lecture.yaml").read_text()
    (tmp_path / "params.yaml").write_text(BEFORE + text[text.index("train:") :] + AFTER)
    return tmp_path


def command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "commands", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("path", sorted((ROOT / "sets").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_set_is_whole_and_says_what_it_is_for(path):
    from commands.sets import description, read_train

    parse_section(read_train(path), "train", TrainParams)
    assert len(description(path)) > 20


@pytest.mark.parametrize("conditional", [False, True])
def test_a_trial_trains_for_a_while(tensorflow, conditional):
    from commands.sets import read_train, steps_a_second

    small = {"batch_size": 4, "generator_units": [4], "discriminator_units": [4], "conditional": conditional, "threads": THREADS}
    params = parse_section({**read_train(ROOT / "sets/lecture.yaml"), **small}, "train", TrainParams)
    assert steps_a_second(params, seconds=0.1) > 1
    with pytest.raises(UserError, match="processor = 'MOS 6502': this machine's is"):
        steps_a_second(params.model_copy(update={"processor": "MOS 6502"}))


def test_the_lectures_set_is_the_default():
    used, lecture = (read_file(ROOT / name)["train"] for name in ("params.yaml", "sets/lecture.yaml"))
    assert used == lecture, "params.yaml has other values than the set lecture; `gan use lecture` goes back"


def test_switching_replaces_the_section_alone_and_says_what_changed(folder):
    original = (folder / "params.yaml").read_text()
    done = command(folder, "use", "conditional-60s")
    assert done.returncode == 0, done.stderr
    assert "train.network: dense -> conv" in done.stdout.splitlines()
    assert "train.generator_adam.beta_1: 0.9 -> 0.0" in done.stdout.splitlines()
    assert "threads" not in done.stdout
    text = (folder / "params.yaml").read_text()
    assert text.startswith(BEFORE) and text.endswith(AFTER)
    train = read_file("params.yaml")["train"]
    wanted = read_file("sets/conditional-60s.yaml")["train"]
    assert train["processor"] == processor_kind()
    for name in ("processor", "instructions", "compute_precision"):  # what suits this machine
        assert wanted.pop(name) == "this" != train.pop(name)
    assert train == wanted
    command(folder, "use", "lecture")
    assert (folder / "params.yaml").read_text() == original


def test_so_many_seconds_are_so_many_steps(folder, monkeypatch):
    from commands import sets as command_sets

    tried = []
    monkeypatch.setattr(command_sets, "steps_a_second", lambda train: tried.append(train) or 87.9)
    done = CliRunner().invoke(command_sets.use, ["conditional-60s", "--seconds", "60"])
    assert done.exit_code == 0, done.output
    assert [train.batch_size for train in tried] == [64]
    assert "train.steps: 5001 -> 5200" in done.output  # the clock says 5274
    assert done.output.splitlines()[-1] == "training takes about 59 s here: 5200 steps, 87.9 a second"
    text = (folder / "params.yaml").read_text()
    assert "\n  steps: 5200                      # updates of the generator\n" in text
    assert text.startswith(BEFORE) and text.endswith(AFTER)

    before = (folder / "params.yaml").read_bytes()
    done = CliRunner().invoke(command_sets.use, ["conditional-60s", "--seconds", "10"])
    assert isinstance(done.exception, UserError) and "warm_up_steps = 500 reaches into the decay" in str(done.exception)
    assert str(done.exception).startswith(
        "10 s are 879 steps here, too few for conditional-60s: --seconds 23 is the least, 2000 steps (sets/"
    )
    assert "after 0.25 of 879 steps" in str(done.exception)
    assert (folder / "params.yaml").read_bytes() == before
    assert CliRunner().invoke(command_sets.use, ["conditional-60s", "--seconds", "22"]).exception
    assert CliRunner().invoke(command_sets.use, ["conditional-60s", "--seconds", "23"]).exit_code == 0


@pytest.mark.parametrize(
    ("name", "seconds", "message"),
    [
        ("conditional-60s", 3, "conditional-60s: --seconds 102 is the least, 2000 steps (sets/"),
        ("lecture", 3, "lecture: --seconds 6 is the least, 100 steps (they are chosen in"),
    ],
)
def test_seconds_that_are_too_few_are_told_with_the_steps_that_they_are(folder, monkeypatch, name, seconds, message):
    from commands import sets as command_sets

    monkeypatch.setattr(command_sets, "steps_a_second", lambda train: 19.65)
    before = (folder / "params.yaml").read_bytes()
    done = CliRunner().invoke(command_sets.use, [name, "--seconds", str(seconds)])
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith(f"3 s are 58 steps here, too few for {message}")
    assert (folder / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("seconds", ["inf", "nan", "0", "-1"])
def test_seconds_that_are_no_time_are_refused(folder, seconds):
    done = command(folder, "use", "lecture", "--seconds", seconds)
    assert done.returncode == 2 and "--seconds" in done.stderr and "Traceback" not in done.stderr


def test_a_set_of_fewer_steps_than_a_hundred_can_be_tried_in_seconds_too(folder, monkeypatch):
    from commands import sets as command_sets

    mine = (folder / "sets/lecture.yaml").read_text().replace("steps: 5001", "steps: 51")
    (folder / "sets/mine.yaml").write_text(mine)
    monkeypatch.setattr(command_sets, "steps_a_second", lambda train: 90.0)
    done = CliRunner().invoke(command_sets.use, ["mine", "--seconds", "3"])
    assert done.exit_code == 0 and "training takes about 2 s here: 200 steps, 90 a second" in done.output


@pytest.mark.slow
def test_the_seconds_are_tried_on_this_machine(folder):
    done = command(folder, "use", "lecture", "--seconds", "20")
    assert done.returncode == 0, done.stderr
    steps = read_file("params.yaml")["train"]["steps"]
    assert f"s here: {steps} steps" in done.stdout and steps % 100 == 0


AVX2 = {"avx2", "fma"}
AVX512 = AVX2 | {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}
BFLOAT16 = AVX512 | {"avx512_bf16"}
AMX = BFLOAT16 | {"amx_tile", "amx_bf16"}


@pytest.mark.parametrize(
    ("maker", "flags", "instructions", "precision"),
    [
        ("AMD", AVX2, "avx2", "float32"),
        ("Intel", AVX512, "avx512", "float32"),
        ("AMD", BFLOAT16, "avx512_bf16", "bfloat16"),
        ("Intel", BFLOAT16, "avx512_bf16", "float32"),
        ("Intel", AMX, "amx_bf16", "bfloat16"),
        ("Intel", {"sse4_2"}, "native", "float32"),
        ("aarch64", set(), "native", "float32"),
    ],
)
@pytest.mark.parametrize("name", ["conditional-60s", "unconditional-60s", "conditional-350s"])
def test_a_set_asks_for_what_the_processor_has(monkeypatch, name, maker, flags, instructions, precision):
    monkeypatch.setattr(runtime, "_is_x86", lambda: maker != "aarch64")
    monkeypatch.setattr(runtime, "_processor_flags", lambda: flags)
    monkeypatch.setattr(sets, "processor_kind", lambda: f"{maker} 1-2")
    train = parse_yaml(for_machine((ROOT / "sets" / f"{name}.yaml").read_text(), this_machine()), name)["train"]
    assert (train["instructions"], train["compute_precision"]) == (instructions, precision)
    parse_section(train, "train", TrainParams)  # such a combination is none that is refused


def test_a_comment_at_the_lines_start_does_not_end_the_section(folder):
    original = (folder / "params.yaml").read_text()
    lines = original.splitlines(keepends=True)
    inside = lines.index("train:\n") + 2
    (folder / "params.yaml").write_text("".join([*lines[:inside], "# batch_size: 64  # was worse\n", "\n", *lines[inside:]]))
    assert command(folder, "use", "conditional-60s").returncode == 0
    text = (folder / "params.yaml").read_text()
    assert text.startswith(BEFORE) and text.endswith(AFTER) and "was worse" not in text
    command(folder, "use", "lecture")
    assert (folder / "params.yaml").read_text() == original


def test_a_section_that_others_refer_to_is_not_replaced(folder):
    path = folder / "params.yaml"
    path.write_text("train: &train\n  steps: 3\nother: *train\n")
    before = path.read_bytes()
    done = command(folder, "use", "lecture")
    assert done.returncode == 1 and "has an anchor or alias, 'train'" in done.stderr and path.read_bytes() == before


def test_a_section_at_the_end_of_the_file_is_replaced_as_well(folder):
    from commands.sets import use_set

    (folder / "params.yaml").write_text("a:\n  b: 1\ntrain:\n  steps: 3\n")
    changed = use_set("lecture", "params.yaml")
    assert changed[1] == "train.steps: 3 -> 5001"
    assert read_file("params.yaml") == {"a": {"b": 1}, "train": read_file("sets/lecture.yaml")["train"]}


def test_a_file_more_is_a_set_more(folder):
    mine = (folder / "sets/lecture.yaml").read_text().replace("steps: 5001", "steps: 51")
    (folder / "sets/mine.yaml").write_text("# Mine.\n" + mine)
    listed = command(folder, "sets").stdout.splitlines()
    assert [line for line in listed if "mine" in line.split()[0]][0].endswith("Mine.")
    assert [line.split()[1] for line in listed if line.startswith("*")] == ["lecture"]
    assert command(folder, "use", "mine").stdout == "train.steps: 5001 -> 51\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  steps: 3\n", "sets/mine.yaml: train.seed is missing"),
        ("judge:\n  a: 1\n", "sets/mine.yaml: expected the section 'train' alone, got judge"),
        ("train: [\n", "sets/mine.yaml: not valid YAML"),
    ],
)
def test_a_broken_set_changes_nothing(folder, text, message):
    (folder / "sets/mine.yaml").write_text(text)
    before = (folder / "params.yaml").read_bytes()
    done = command(folder, "use", "mine")
    assert done.returncode == 1
    assert done.stderr.startswith(f"gan: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert (folder / "params.yaml").read_bytes() == before


def test_an_unknown_set_names_the_known_ones(folder):
    done = command(folder, "use", "lectur")
    assert done.returncode == 1
    assert "there is no set 'lectur' in sets/; choose from conditional-350s, conditional-60s" in done.stderr
    shutil.rmtree(folder / "sets")
    assert command(folder, "use", "lecture").stderr == "gan: there are no sets in sets/; run from the repository's root\n"


def test_the_lectures_set_alone_counts_as_published():
    from commands.sets import read_train
    from gan.lecture import is_published

    lecture = read_train(ROOT / "sets/lecture.yaml")
    published = [path.stem for path in (ROOT / "sets").glob("*.yaml") if is_published(read_train(path), lecture)]
    assert published == ["lecture"]
