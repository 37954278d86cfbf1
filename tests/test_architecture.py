"""The rules of the house that a program can check: who imports whom, and that DVC knows every file that a stage runs."""

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
DVC_STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
PACKAGES = ("gan", "stages", "flows")


def imported_names(path):
    """The dotted names that the module at `path` imports anywhere in it, `from a import b` giving both a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def project_files(path):
    """The project's files that running the module at `path` may load: itself, what it imports, their packages, and so on."""
    found, pending = set(), [path]
    while pending:
        current = pending.pop()
        if current in found:
            continue
        found.add(current)
        for name in imported_names(current):
            parts = name.split(".")
            if parts[0] in PACKAGES:
                module = ROOT.joinpath(*parts)
                candidates = [module.with_suffix(".py"), *(parent / "__init__.py" for parent in [module, *module.parents])]
                pending += [file for file in candidates if file.is_file() and file.is_relative_to(ROOT)]
    return found | {path.parent / "__init__.py"}


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("name", DVC_STAGES)
def test_a_stage_lists_every_project_file_that_it_imports(name):
    stage = DVC_STAGES[name]
    assert stage["cmd"] == f"python -m stages.{name}"
    expected = {str(path.relative_to(ROOT)) for path in project_files(ROOT / "stages" / f"{name}.py")}
    listed = {dep for dep in stage["deps"] if dep.startswith(PACKAGES) and dep.endswith(".py")}
    assert listed == expected, f"missing: {sorted(expected - listed)}, needless: {sorted(listed - expected)}"


def data_paths(path):
    """What the module at `path` names in data/: its constants X = Path("data/..."), and X / "name" anywhere in it."""
    tree = ast.parse(path.read_text())
    folders = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "Path":
            folders[node.targets[0].id] = ast.literal_eval(node.value.args[0])
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)]
    files = {
        (node.left.id, node.right.value)
        for node in joined
        if isinstance(node.left, ast.Name) and node.left.id in folders and isinstance(node.right, ast.Constant)
    }
    alone = set(folders) - {folder for folder, _ in files}
    return {f"{folders[folder]}/{name}" for folder, name in files} | {folders[folder] for folder in alone}


@pytest.mark.parametrize("name", DVC_STAGES)
def test_a_stage_lists_every_data_file_that_it_names(name):
    stage = DVC_STAGES[name]
    entries = [*stage["deps"], *stage["outs"], *stage.get("metrics", [])]
    listed = {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}
    named = data_paths(ROOT / "stages" / f"{name}.py") - {"data/timings/train.json"}
    assert named
    missing = {path for path in named if not any(path == entry or path.startswith(f"{entry}/") for entry in listed)}
    # a folder stands for what the stage lists in it
    assert not {path for path in missing if not any(entry.startswith(f"{path}/") for entry in listed)}


def test_files_that_modules_read_are_listed_as_well():
    # the import walk sees Python alone: a template or table beside a module must be a dep of every stage that uses the module
    others = [p for package in PACKAGES for p in (ROOT / package).rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    for path in others:
        users = {p for p in modules("gan") + modules("stages") if path.name in p.read_text()}
        assert users, f"{path} is used by no module"
        stages = [name for name in DVC_STAGES if users & project_files(ROOT / "stages" / f"{name}.py")]
        assert stages or any(users & project_files(command) for command in modules("commands")), f"{path} is used by nobody"
        for name in stages:
            assert str(path.relative_to(ROOT)) in DVC_STAGES[name]["deps"], (name, path)


@pytest.mark.parametrize("name", DVC_STAGES)
def test_a_stage_module_begins_with_what_it_reads_and_writes(name):
    docstring = ast.get_docstring(ast.parse((ROOT / "stages" / f"{name}.py").read_text()))
    assert docstring.startswith("Reads ") and "Writes " in docstring.split("\n\n")[0]
    assert DVC_STAGES[name]["desc"]


def room(path):
    """The room of a module: "gan" for the ground floor, else gan/judge, stages, flows, commands and so on."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if parts[0] == "gan" and len(parts) == 3 else parts[0]


def forbidden_imports(path, names):
    """Those of the project's own `names` that the module at `path` may not import, by the rules in docs/extend.md."""
    own = {name for name in names if name.split(".")[0] in (*PACKAGES, "commands", "benchmarks", "tests")}
    home = room(path)
    if home == "commands":
        return {name for name in own if name.split(".")[0] in ("benchmarks", "tests", "stages")}
    if home == "flows":
        ground = {"gan", "gan.errors", "gan.files", "gan.params", "gan.runtime"}
        return {name for name in own if not name.startswith("flows") and ".".join(name.split(".")[:2]) not in ground}
    if home == "stages":
        shared = {"stages", "stages.command", "stages.console"}
        return {n for n in own if n.split(".")[0] != "gan" and ".".join(n.split(".")[:2]) not in shared}
    ground = {"gan"} | {f"gan.{file.stem}" for file in (ROOT / "gan").glob("*.py")}
    allowed = ground if home == "gan" else ground | {home.replace("/", ".")}
    return {name for name in own if ".".join(name.split(".")[:2]) not in allowed}


@pytest.mark.parametrize("path", [p for package in (*PACKAGES, "commands") for p in modules(package)], ids=lambda p: str(p.name))
def test_every_module_imports_only_what_its_room_may(path):
    assert not forbidden_imports(path, imported_names(path))
    outside = {name.split(".")[0] for name in imported_names(path)}
    if room(path).startswith("gan") or room(path) == "stages":
        assert not outside & {"prefect", "dvc", "click"}
    if room(path) == "flows":
        assert not outside & {"tensorflow", "keras", "matplotlib", "click"}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("gan/errors.py", "gan.judge.metrics"),
        ("gan/images.py", "stages.command"),
        ("gan/judge/metrics.py", "gan.training.engine"),
        ("gan/pages/charts.py", "gan.judge.params"),
        ("gan/training/loop.py", "benchmarks.judges"),
        ("stages/train.py", "stages.judge"),
        ("stages/train.py", "flows.git"),
        ("stages/train.py", "commands.sets"),
        ("flows/gate.py", "gan.images"),
        ("flows/gate.py", "stages.train"),
        ("flows/dvc/session.py", "commands.check"),
        ("commands/sets.py", "benchmarks.judges"),
    ],
)
def test_an_import_against_the_rules_is_found(module, name):
    assert forbidden_imports(ROOT / module, {name, "gan.errors"}) == {name}


@pytest.mark.parametrize("path", modules("gan"), ids=lambda path: path.name)
def test_the_library_knows_no_path(path):
    strings = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    assert not [text for text in strings if isinstance(text, str) and text.startswith(("data/", "sets/"))]


@pytest.mark.parametrize("path", modules("stages"), ids=lambda path: path.name)
def test_stage_modules_load_fast(path):
    """What a stage needs only after its parameters are checked is imported inside functions."""
    slow = {"tensorflow", "keras", "matplotlib", "scipy", "sklearn", "requests", "pooch"}
    top = ast.parse(path.read_text()).body
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in top if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in names} & slow


def parameter_names(value):
    if isinstance(value, dict):
        return set(value).union(*map(parameter_names, value.values()))
    if isinstance(value, list):
        return set().union(*map(parameter_names, value))
    return set()


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *sorted((ROOT / "sets").glob("*.yaml"))], ids=lambda path: path.name)
def test_no_parameter_has_a_name_that_the_run_cache_ignores(path):
    # DVC leaves these two out of the run cache's key: a change of such a parameter would restore the former result
    assert not parameter_names(YAML(typ="safe").load(path)) & {"size", "nfiles"}
