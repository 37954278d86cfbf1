"""`gan sets` and `gan use`: the section `train` of params.yaml as a whole, as it stands in sets/<name>.yaml.

Whoever adds a file there has added a set. `dvc params diff` then shows what changed, `dvc repro` trains it.
"""

import math
import re
import time
from pathlib import Path

import click

from commands.options import positive
from flows.sets import for_machine, this_machine
from gan.errors import ParamsError, UserError
from gan.files import write_bytes
from gan.params import PARAMS, parse_section, parse_yaml, read_file, read_text
from gan.training.params import TrainParams

SETS = Path("sets")
SECTION = "train"
TRIAL_SECONDS, TRIAL_IMAGES = 8.0, 2000  # ten seconds with the start
STEPS_TEXT = re.compile(r"^( +steps: )(\d+ *)", re.MULTILINE)
STEPS_GRAIN = 100  # a number that is chosen by the clock is no more exact than that
# from its name to its last indented line: blank lines and comments before the section that follows are that one's
SECTION_TEXT = re.compile(rf"^{SECTION}:.*?(?=\s*(?:^#[^\n]*\s*)*(?:^[^\s#]|\Z))", re.MULTILINE | re.DOTALL)


def set_names():
    """The names of all sets, in alphabetical order."""
    return sorted(path.stem for path in SETS.glob("*.yaml"))


def use_set(name, params_path, *, steps=None):
    """Put the set `name` into the file at `params_path`; one line for each parameter that changed.

    steps: how many it trains, by default its own number.
    """
    path = set_path(name)
    new, old = read_train(path), read_file(params_path).get(SECTION)
    section = section_text(path)
    if steps is not None:
        section = STEPS_TEXT.sub(lambda match: f"{match[1]}{steps:<{len(match[2])}}", section, count=1)
        new = {**new, "steps": steps}
        parse_section(new, SECTION, TrainParams, path)
    text = Path(params_path).read_text(encoding="utf-8")
    replaced, count = SECTION_TEXT.subn(lambda _: section, text)
    if count != 1:
        raise ParamsError(f"{params_path}: expected one section {SECTION!r} in block style, found {count}")
    if parse_yaml(replaced, params_path).get(SECTION) != new:
        raise ParamsError(f"{params_path}: its section {SECTION!r} cannot be replaced as a whole; write it in block style")
    write_bytes(params_path, replaced.encode())
    return differences(old if isinstance(old, dict) else {}, new)


def set_path(name):
    """The file of the set `name`; UserError if there is none."""
    if not set_names():
        raise UserError(f"there are no sets in {SETS}/; run from the repository's root")
    if name not in set_names():
        raise UserError(f"there is no set {name!r} in {SETS}/; choose from {', '.join(set_names())}")
    return SETS / f"{name}.yaml"


def read_train(path):
    """The raw section of the set at `path` for this machine, checked: a set holds every parameter of training, nothing else."""
    content = parse_yaml(_text_of(path), path)
    if list(content) != [SECTION]:
        raise ParamsError(f"{path}: expected the section {SECTION!r} alone, got {', '.join(map(str, content))}")
    parse_section(content[SECTION], SECTION, TrainParams, path)
    return content[SECTION]


def section_text(path):
    """The section's lines in the set at `path` for this machine, comments included."""
    return SECTION_TEXT.search(_text_of(path))[0]


def _text_of(path):
    return for_machine(read_text(path), this_machine())


def description(path):
    """The first line of the set at `path`, if it is a comment."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def differences(old, new, prefix=SECTION):
    """Lines "name: old -> new" for two nested dicts, in the order of `new`, then what only `old` has."""
    lines = []
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}.{key}")
        elif before != after:
            lines.append(f"{prefix}.{key}: {before} -> {after}")
    return lines


def steps_a_second(params, *, seconds=TRIAL_SECONDS):
    """How fast training with the TrainParams `params` is on this machine, from training for that long on random images.

    Raises UserError where this machine cannot.
    """
    import numpy as np

    from gan.runtime import require_processor

    require_processor(params.processor)
    params.start_tensorflow()
    from gan.training.engine import BLOCK_STEPS, Engine

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (TRIAL_IMAGES, 28, 28, 1), np.uint8)
    labels = random.integers(0, 10, TRIAL_IMAGES) if params.conditional else None
    engine = Engine(params, images, labels)
    first = engine.initial_state()
    engine.advance(first, 0, BLOCK_STEPS)  # compiles
    started, blocks = time.monotonic(), 0
    while blocks == 0 or time.monotonic() < started + seconds:
        engine.advance(first, 0, BLOCK_STEPS)  # the same steps again: on noise, training might diverge
        blocks += 1
    return blocks * BLOCK_STEPS / (time.monotonic() - started)


def _steps_for(name, seconds, speed):
    """How many steps of the set `name` there are in so many seconds at `speed` steps a second, rounded down to hundreds.

    Raises UserError where the set cannot be trained for so few: it says how many seconds are enough here.
    """
    path = set_path(name)
    section = read_train(path)

    def refusal(count):
        try:
            parse_section({**section, "steps": count}, SECTION, TrainParams, path)
        except ParamsError as error:
            return error

    steps = int(seconds * speed)
    hundreds = range(STEPS_GRAIN, section["steps"] + STEPS_GRAIN, STEPS_GRAIN)  # the set's own number is enough
    least = next(count for count in hundreds if not refusal(count))
    if steps < least:
        raise UserError(
            f"{seconds:g} s are {steps} steps here, too few for {name}: --seconds {math.ceil(least / speed)} is the least, "
            f"{least} steps ({refusal(steps) or 'they are chosen in hundreds'})"
        )
    return steps // STEPS_GRAIN * STEPS_GRAIN


def list_sets(params_path):
    """One line a set, the one in use marked."""
    current = read_file(params_path).get(SECTION)
    width = max(map(len, set_names()), default=0)
    return [
        f"{'*' if read_train(SETS / f'{name}.yaml') == current else ' '} {name:{width}}  {description(SETS / f'{name}.yaml')}"
        for name in set_names()
    ]


@click.command()
@click.option("--params", default=PARAMS, show_default=True, metavar="FILE", help="The file to look at.")
def sets(params):
    """List the named sets of parameters, a line each; the one in use is marked."""
    click.echo("\n".join(list_sets(params)))


@click.command()
@click.argument("name")
@click.option("--params", default=PARAMS, show_default=True, metavar="FILE", help="The file to change.")
@click.option("--trial", is_flag=True, help="Train for ten seconds as well, and say how long the whole training takes here.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=1.0),
    callback=positive,
    metavar="S",
    help="Train for ten seconds first, and choose as many steps as S seconds of training have here.",
)
def use(name, params, trial, seconds):
    """Put the set NAME, a file of sets/ without its .yaml, into params.yaml, and print every value that changed."""
    train, steps, speed = parse_section(read_train(set_path(name)), SECTION, TrainParams), None, None
    if trial or seconds:
        click.echo("training for ten seconds ...", err=True)
        speed = steps_a_second(train)
    if seconds:
        steps = _steps_for(name, seconds, speed)
    changed = use_set(name, params, steps=steps)
    click.echo("\n".join(changed or [f"{params} holds the set {name} already"]))
    if speed:
        steps = steps or train.steps
        click.echo(f"training takes about {steps / speed:.0f} s here: {steps} steps, {speed:.3g} a second")
