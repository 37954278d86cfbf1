"""Checks the whole of params.yaml in under a second, before any stage runs: every section, every key, every value.

Each stage checks its own section as well; this one also finds sections that nobody reads.
"""

import argparse
import importlib
import sys

from gan.errors import ParamsError
from gan.params import parse_section, read_file
from stages.command import PARAMS

# section -> where its class stands; read lazily, so that one module's error does not hide the others
SECTIONS = {
    "fetch": "stages.fetch:FetchParams",
    "normalize": "stages.normalize:NormalizeParams",
    "judge": "stages.judge:JudgeParams",
    "train": "gan.train_params:TrainParams",
    "evaluate": "stages.evaluate:EvaluateParams",
    "gallery": "stages.gallery:GalleryParams",
    "report": "stages.report:ReportParams",
    "runtime": "gan.train_params:RuntimeParams",
}
# read and checked by flows alone: stages know nothing of what lies above them
OTHERS = ("flow",)


def check(path):
    """One line for each thing that is wrong with the parameters file at `path`; none when it is right."""
    try:
        content = read_file(path)
    except ParamsError as error:
        return [str(error)]
    known = [*SECTIONS, *OTHERS]
    problems = [f"{path}: section {name!r} is unknown; expected {', '.join(known)}" for name in content if name not in known]
    for name, location in SECTIONS.items():
        module, _, class_name = location.partition(":")
        if name not in content:
            problems.append(f"{path}: section {name!r} is missing")
            continue
        try:
            parse_section(content[name], name, getattr(importlib.import_module(module), class_name), path)
        except ParamsError as error:
            problems.append(str(error))
    return problems


def main():
    parser = argparse.ArgumentParser(prog="python -m stages.check_params", description=__doc__)
    parser.add_argument("--params", default=PARAMS, help="the file to check (default: %(default)s)")
    problems = check(parser.parse_args().params)
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
