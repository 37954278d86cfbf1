"""`gan check`: the whole of params.yaml in under a second, before any stage runs: every section, every key, every value.

Each stage checks its own section as well; this also finds sections that nobody reads.
"""

import importlib
import subprocess

import click

from gan.errors import ParamsError, UserError
from gan.params import PARAMS, parse_section, read_file
from gan.runtime import CPU, require_instructions, require_processor

# section -> where its class stands
SECTIONS = {
    "fetch": "gan.datasets.params:FetchParams",
    "normalize": "gan.datasets.params:NormalizeParams",
    "judge": "gan.judge.params:JudgeParams",
    "train": "gan.training.params:TrainParams",
    "evaluate": "gan.judge.params:EvaluateParams",
    "gallery": "gan.pages.params:GalleryParams",
    "report": "gan.pages.params:ReportParams",
    "flow": "flows.settings:FlowParams",
    "runtime": "gan.training.params:RuntimeParams",
}


def problems(path):
    """One line for each thing that is wrong with the parameters file at `path`; none when it is right."""
    return _parse(path)[0]


def unmet(train):
    """One line for each of the TrainParams that this machine does not have, so that the stage `train` refuses to run here."""
    found = []
    needs = ((require_processor, train.processor), (require_instructions, train.instructions), (_require_device, train.device))
    for require, value in needs:
        try:
            require(value)
        except UserError as error:
            found.append(f"train.{error}")
    return found


def _parse(path):
    """The problems of the file at `path`, and its sections that have none: name -> object."""
    try:
        content = read_file(path)
    except ParamsError as error:
        return [str(error)], {}
    found = [f"{path}: section {name!r} is unknown; expected {', '.join(SECTIONS)}" for name in content if name not in SECTIONS]
    parsed = {}
    for name, location in SECTIONS.items():
        module, _, class_name = location.partition(":")
        if name not in content:
            found.append(f"{path}: section {name!r} is missing")
            continue
        try:
            parsed[name] = parse_section(content[name], name, getattr(importlib.import_module(module), class_name), path)
        except ParamsError as error:
            found.append(str(error))
    return found, parsed


def _require_device(name):
    """Raise UserError unless `name` is the CPU's or a GPU's of this machine, by NVIDIA's driver: TensorFlow takes seconds."""
    if name != CPU and name not in (gpus := _gpus()):
        raise UserError(
            f"device = {name!r}: nvidia-smi names {', '.join(gpus) or 'no GPU'} here; work on another machine, or set "
            f"train.device to {' or '.join([CPU, *gpus])} (other bytes)"
        )


def _gpus():
    """The names of this machine's GPUs; none where NVIDIA's program is not there or does not answer."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],  # noqa: S607 (wherever the driver has put it)
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


@click.command()
@click.option("--params", default=PARAMS, show_default=True, metavar="FILE", help="The file to check.")
@click.pass_context
def check(context, params):
    """Check the whole of params.yaml: every section, every key, every value. Silent when all is right.

    What this machine cannot train is a note and no error: another may have made it already, or is to.
    """
    found, parsed = _parse(params)
    for problem in found:
        click.echo(problem, err=True)
    if found:
        context.exit(1)
    for line in unmet(parsed["train"]):
        click.echo(f"{params}: note: {line}; here `train` refuses to run, unless DVC's cache has its result", err=True)
