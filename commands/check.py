"""`gan check`: the whole of params.yaml in under a second, before any stage runs: every section, every key, every value.

Each stage checks its own section as well; this also finds sections that nobody reads.
"""

import importlib

import click

from gan.errors import ParamsError
from gan.params import PARAMS, parse_section, read_file

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
    try:
        content = read_file(path)
    except ParamsError as error:
        return [str(error)]
    found = [f"{path}: section {name!r} is unknown; expected {', '.join(SECTIONS)}" for name in content if name not in SECTIONS]
    for name, location in SECTIONS.items():
        module, _, class_name = location.partition(":")
        if name not in content:
            found.append(f"{path}: section {name!r} is missing")
            continue
        try:
            parse_section(content[name], name, getattr(importlib.import_module(module), class_name), path)
        except ParamsError as error:
            found.append(str(error))
    return found


@click.command()
@click.option("--params", default=PARAMS, show_default=True, metavar="FILE", help="The file to check.")
@click.pass_context
def check(context, params):
    """Check the whole of params.yaml: every section, every key, every value. Silent when all is right."""
    found = problems(params)
    for problem in found:
        click.echo(problem, err=True)
    if found:
        context.exit(1)
