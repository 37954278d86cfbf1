"""params.yaml as people and programs may break it, the named sets, and overrides."""

import functools
import importlib
import io

from hypothesis import strategies as st
from ruamel.yaml import YAML

from commands.check import SECTIONS, problems
from gan.errors import ParamsError, UserError
from gan.params import parse_section
from tests.soak.case import AcceptedWrongly, Kind, RefusedWrongly
from tests.soak.frame import ROOT
from tests.soak.kinds import bytes_edits

PARAMS_BYTES = (ROOT / "params.yaml").read_bytes()
CONTENT = YAML(typ="safe").load(PARAMS_BYTES)

# Values as they would stand in the file; what YAML makes of a few of them surprises.
NASTY_VALUES = (
    "",
    "~",
    "[]",
    "{}",
    "true",
    "'1'",
    "1",
    "-1",
    "0",
    "1.5",
    ".nan",
    ".inf",
    "-.inf",
    "1e400",
    "1e-400",
    "9" * 400,
    "9" * 5000,
    "0x10",
    "0o17",
    "1_000",
    "12:30:45",
    "2026-01-01",
    "2026-01-01T00:00:00Z",
    "!!binary aGk=",
    "!!python/object/apply:os.system [true]",
    "!!set {a, b}",
    "&x 1",
    "*x",
    "[" * 30 + "]" * 30,
    "[" * 3000,
    "{a: {b: {c: d}}}",
    "? [a, b]\n: 1",
    '"\\u0000"',
    '"\\ud800"',
    '"line\\nline"',
    '"\\e[31mred"',
    "|\n    block\n",
    "'unclosed",
    "@at",
    "`tick",
    "%percent",
    "- 1",
    "<<: {a: 1}",
    "yes",
    "NO",
    "null",
    "=",
    "\u202e",
    "\ufeff",
    "💥",
    "<script>alert(1)</script>",
    "{{ 7*7 }}",
    "../../etc/passwd",
    "/dev/zero",
    "~nobody/x",
    "-rf",
)
NASTY_LINES = (
    "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b]\nd: [*c, *c]\n",
    "train: 1\n",
    "? complex\n: key\n",
    "'train':\n  seed: 0\n",
    '"new\\nline": 1\n',
    '"\\e[2J": 1\n',
    "---\na: 1\n",
    "...\n",
    "%YAML 1.1\n---\n",
    "\t\n",
    "a:\tb\n",
    "\r\n" * 3,
    "\n" * 50_000,
    " " * 50_000 + "\n",
    "# " + "x" * 50_000 + "\n",
    "x" * 200_000 + "\n",
    "x: " + "[" * 9000 + "\n",
    "1: 2\n",
    "null: 3\n",
    "[a, b]: 4\n",
    "2026-01-01: 5\n",
    ".inf: 6\n",
    "- item\n",
    "{train: {seed: 0}}\n",
    "x: {1: 2, a: 3}\n",
    "\x00",
    "\x7f",
    "\x85",
    "\u2028",
    "train: {seed: 0}\n",
)


def leaves(value, path=()):
    """(path, value) of everything that is neither a section nor a list of sections."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    return [(path, value)]


LEAVES = leaves(CONTENT)
WRONG_TYPES = {
    int: ["x", 1.5, True, None, [], {}],
    float: ["x", True, None, [], {}],
    str: [5, None, [], {}, True],
    bool: ["yes", 1, None, []],
}


def _wrong_values(path, value):
    if isinstance(value, list):
        return [5, "x", None, {}]
    numbers = [-1, float("nan"), float("inf"), -(10**400)] if type(value) in (int, float) else []
    wrong = WRONG_TYPES[type(value)] + numbers
    return [item for item in wrong if item != 1.5] if path[-1].endswith("_seconds") else wrong  # 3 stands there for 3.0


def _paths(value, path=()):
    """The path of every section and every leaf."""
    if not isinstance(value, dict):
        return [path]
    return [path, *(found for key, item in value.items() for found in _paths(item, (*path, key)))]


structural = st.one_of(
    st.sampled_from([(list(path), wrong) for path, value in LEAVES for wrong in range(len(_wrong_values(path, value)))]).map(
        lambda pair: {"do": "wrong value", "path": pair[0], "which": pair[1]}
    ),
    st.sampled_from([list(path) for path in _paths(CONTENT) if path]).map(lambda path: {"do": "delete", "path": path}),
    st.tuples(
        st.sampled_from([list(path) for path in _paths(CONTENT) if not path or path not in dict(LEAVES)]),
        st.one_of(st.text(max_size=20), st.sampled_from(["new\nline", "\x1b[2J", "seeds", "x" * 5000, "", "😀"])),
    ).map(lambda pair: {"do": "unknown key", "path": pair[0], "key": pair[1]}),
)
textual = st.fixed_dictionaries(
    {
        "do": st.just("text"),
        "lines": st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(NASTY_LINES) | st.text(max_size=40)), max_size=3),
        "values": st.lists(
            st.tuples(st.integers(0, len(LEAVES) - 1), st.sampled_from(NASTY_VALUES) | st.text(max_size=20)), max_size=3
        ),
        "edits": bytes_edits.edits,
    }
)


def text_of(case):
    """The bytes of the file that a case stands for."""
    if case["do"] != "text":
        content = YAML(typ="safe").load(PARAMS_BYTES)
        *parents, last = case["path"] or [None]
        node = functools.reduce(lambda inner, key: inner[key], parents, content)
        if case["do"] == "wrong value":
            node[last] = _wrong_values(case["path"], node[last])[case["which"]]
        elif case["do"] == "delete":
            del node[last]
        else:
            section = content if last is None else node[last]
            if case["key"] in section:
                return PARAMS_BYTES
            section[case["key"]] = 1
        buffer = io.StringIO()
        YAML(typ="safe").dump(content, buffer)
        return buffer.getvalue().encode("utf-8", "surrogatepass")
    lines = PARAMS_BYTES.decode().splitlines(keepends=True)
    for leaf, value in case["values"]:
        key = f"{LEAVES[leaf][0][-1]}:"
        index = next((number for number, line in enumerate(lines) if line.strip().startswith(key)), 0)
        head, _, _ = lines[index].partition(key)
        lines[index] = f"{head}{key} {value}\n"
    for at, line in case["lines"]:
        lines.insert(at * len(lines) // 10_000, line)
    return bytes_edits.apply("".join(lines).encode("utf-8", "surrogatepass"), case["edits"])


def is_the_default(content):
    """Whether the bytes say what the project's params.yaml says."""
    return content == PARAMS_BYTES


def plain(value):
    """Tuples as lists, whole floats as they are."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def run_check(case, folder):
    """`gan check` on a file."""
    content = text_of(case)
    (folder / "params.yaml").write_bytes(content)
    found = problems("params.yaml")
    if found:
        if is_the_default(content):
            raise RefusedWrongly(found[0])
        if not all(line.isprintable() and len(line) <= 1000 for line in found):
            raise UserError("\n".join(found))
        raise ParamsError(found[0])
    if case["do"] != "text" and not is_the_default(content):
        raise AcceptedWrongly(f"{case} is no valid file")
    raw = YAML(typ="safe").load(content)
    for name, location in SECTIONS.items():
        module, _, class_name = location.partition(":")
        section = parse_section(raw[name], name, getattr(importlib.import_module(module), class_name))
        if plain(section.model_dump()) != plain(raw[name]):
            raise AcceptedWrongly(f"{name}: {raw[name]} became {section}")


def run_use(case, folder):
    """`gan use conditional-60s` on a file: it holds the set afterwards and every other section as before, or nothing changed."""
    from commands.sets import list_sets, use_set
    from flows.sets import this_machine

    (folder / "sets").symlink_to(ROOT / "sets")
    file = folder / "params.yaml"
    file.write_bytes(text_of(case))
    before = file.read_bytes()
    try:
        use_set("conditional-60s", "params.yaml")
    except UserError:
        if file.read_bytes() != before:
            raise AcceptedWrongly("refused, but changed the file") from None
        raise
    old, new = YAML(typ="safe").load(before), YAML(typ="safe").load(file.read_bytes())
    expected = YAML(typ="safe").load((ROOT / "sets/conditional-60s.yaml").read_bytes())["train"]
    expected |= {name: value for name, value in this_machine().items() if expected[name] == "this"}
    if new != {**old, "train": expected} and str(new) != str({**old, "train": expected}):
        raise AcceptedWrongly("another section changed, or the set is not in the file")
    if sum(line.startswith("* ") for line in list_sets("params.yaml")) != 1:
        raise AcceptedWrongly("the set is not listed as the one in use")


def run_set_file(case, folder):
    """A file of sets/ that is no set."""
    from commands.sets import list_sets, use_set

    (folder / "sets").mkdir()
    source = (ROOT / "sets/lecture.yaml").read_bytes()
    (folder / "sets" / "mine.yaml").write_bytes(
        bytes_edits.apply(source, case["edits"]) if case["lines"] == [] else text_of(case)
    )
    (folder / "params.yaml").write_bytes(PARAMS_BYTES)
    list_sets("params.yaml")
    use_set("mine", "params.yaml")
    if YAML(typ="safe").load((folder / "params.yaml").read_bytes())["fetch"] != CONTENT["fetch"]:
        raise AcceptedWrongly("another section changed")


overrides = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([".".join(path) for path, _ in LEAVES]), st.sampled_from(NASTY_VALUES) | st.text(max_size=20)
        ).map("=".join),
        st.text(max_size=30),
        st.sampled_from(
            [
                "=",
                "train",
                "train.steps",
                "train=1",
                "train..steps=1",
                ".=1",
                "train.steps.x=1",
                "--x=1",
                "train.seed=1\ntrain.x: 2",
                "fetch.sources.0.path=x",
                "train.generator_units.0=5",
                "train.seed=" + "9" * 5000,
                "\x00=1",
                "train.seed=\x00",
            ]
        ),
    ),
    min_size=1,
    max_size=3,
)


def run_overrides(case, folder):
    """`gan flow --set KEY=VALUE`, as far as the file that it makes."""
    from flows.overrides import apply

    text = apply(PARAMS_BYTES.decode(), case)
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    if found := problems("params.yaml"):
        raise ParamsError(found[0])
    new = dict(leaves(YAML(typ="safe").load(text)))
    named = {tuple(override.partition("=")[0].strip().split(".")) for override in case}
    changed = {path for path in {*new, *dict(LEAVES)} if new.get(path) != dict(LEAVES).get(path)}
    if not changed <= named:
        raise AcceptedWrongly(f"changed {changed - named}")


def _warm_up():
    for name in ("commands.sets", "flows.overrides", *{location.partition(":")[0] for location in SECTIONS.values()}):
        importlib.import_module(name)


KINDS = {
    "parameters": Kind(structural | textual, run_check, _warm_up, share=4),
    "sets": Kind(textual, run_use, _warm_up, share=2),
    "set files": Kind(textual, run_set_file, _warm_up, share=1),
    "overrides": Kind(overrides, run_overrides, _warm_up, share=2),
}
