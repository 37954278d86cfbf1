"""The campaign `supply`: what the project is made of, and the rules that its own code keeps. Its cases are all there are."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from hypothesis import strategies as st

from tests.soak.case import AcceptedWrongly, Kind, NotChecked

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".venv-audit/bin"
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
SOURCES = sorted(
    str(path.relative_to(ROOT))
    for path in [
        *ROOT.glob("*.py"),
        *(file for name in ("gan", "stages", "flows", "commands", "benchmarks") for file in (ROOT / name).rglob("*.py")),
    ]
)
# What code of this project never calls, and why.
FORBIDDEN = {
    "eval": "runs text",
    "exec": "runs text",
    "compile": "makes code of text",
    "__import__": "loads what a text names",
    "os.system": "is a shell",
    "os.popen": "is a shell",
    "subprocess.getoutput": "is a shell",
    "subprocess.getstatusoutput": "is a shell",
    "torch.load": "is a pickle",
    "shutil.unpack_archive": "writes where an archive says",
    "tempfile.mktemp": "names a file that others can make first",
    "np.load": "allocates what a header asks for; use gan.arrays",
}
FORBIDDEN_METHODS = {
    "extractall": "writes where an archive says",
    "enable_unsafe_deserialization": "lets Keras run code of a file",
}
FORBIDDEN_MODULES = {
    "pickle": "runs what a file says",
    "marshal": "makes code of bytes",
    "shelve": "is a pickle",
    "joblib": "is a pickle",
    "dill": "is a pickle",
    "yaml": "makes any object; use gan.params, which reads as DVC does",
}


def imported(tree):
    """(first name, line) of every module that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0], node.lineno


def run_source(case, folder):
    """One module: no shell, no code out of data, no unsafe reading."""
    tree = ast.parse((ROOT / case).read_text(encoding="utf-8"))
    for module, line in imported(tree):
        if module in FORBIDDEN_MODULES:
            raise AcceptedWrongly(f"{case}:{line}: {module} {FORBIDDEN_MODULES[module]}")
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = ast.unparse(call.func)
        where = f"{case}:{call.lineno}: {name}"
        reason = FORBIDDEN.get(name) or FORBIDDEN_METHODS.get(name.rpartition(".")[2])
        if name == "np.load" and case.startswith("benchmarks/"):  # of a file that it wrote itself a moment ago
            continue
        if reason:
            raise AcceptedWrongly(f"{where} {reason}")
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        if "shell" in keywords and not _is(keywords["shell"], False):
            raise AcceptedWrongly(f"{where} has a shell")
        if "allow_pickle" in keywords and not _is(keywords["allow_pickle"], False):
            raise AcceptedWrongly(f"{where} reads pickles")
        if "verify" in keywords and _is(keywords["verify"], False):
            raise AcceptedWrongly(f"{where} trusts any certificate")
        if name == "keras.models.load_model" and not _is(keywords.get("safe_mode"), True):
            raise AcceptedWrongly(f"{where} without safe_mode=True")
        if name == "YAML" and "typ" in keywords and _is(keywords["typ"], "unsafe"):
            raise AcceptedWrongly(f"{where} makes any object")


def _is(node, value):
    return isinstance(node, ast.Constant) and node.value == value


def requirements(text):
    """(name, version, hashes) of each requirement of a lock; raises AcceptedWrongly for a line that is none."""
    for block in re.split(r"\n(?=\S)", text):
        lines = [line for line in block.splitlines() if line.strip() and not line.strip().startswith("#")]
        if not lines:
            continue
        match = re.fullmatch(
            r"([a-zA-Z0-9._-]+)(?:\[[a-z0-9,_-]+\])?==([^\s;]+)(?: ; [^\\]+)?", lines[0].removesuffix("\\").strip()
        )
        if not match:
            raise AcceptedWrongly(f"{lines[0]!r} is no name with one version")
        hashes = [line.strip().removesuffix("\\").strip() for line in lines[1:]]
        if not hashes or not all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", line) for line in hashes):
            raise AcceptedWrongly(f"{match[1]}: expected hashes alone, got {hashes[:1]}")
        yield match[1], match[2], hashes


def run_lock(case, folder):
    """One lock file: names with one version and hashes, nothing else."""
    text = (ROOT / case).read_text(encoding="utf-8")
    found = Counter((name, version) for name, version, _ in requirements(text))
    if not found or "://" in text:
        raise AcceptedWrongly("it is empty, or names a place")


def run_parts(case, folder):
    """The list of parts, as `make sbom` makes it: every requirement of the lock is in it, with its hashes, and no place."""
    if not (TOOLS / "cyclonedx-py").exists():
        raise NotChecked("cyclonedx-py is not installed; `make audit` installs it")
    command = [TOOLS / "cyclonedx-py", "requirements", "-i", ".", "--output-reproducible", "--of", "JSON", ROOT / case]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise AcceptedWrongly(f"no list of parts: {done.stderr[-500:]}")
    components = json.loads(done.stdout)["components"]
    listed = {(part["name"].lower(), part["version"]) for part in components}
    expected = {(name.lower(), version) for name, version, _ in requirements((ROOT / case).read_text(encoding="utf-8"))}
    if listed != expected:
        raise AcceptedWrongly(f"the list differs by {sorted(listed ^ expected)[:5]}")
    places = {
        reference["url"] for part in components for reference in part.get("externalReferences", []) if "://" in reference["url"]
    }
    if places:
        raise AcceptedWrongly(f"the list names {sorted(places)[:3]}")


def run_audit(case, folder):
    """`pip-audit` over one lock: no version with a known weakness."""
    if not (TOOLS / "pip-audit").exists():
        raise NotChecked("pip-audit is not installed; `make audit` installs it")
    command = [
        TOOLS / "pip-audit",
        "--disable-pip",
        "--no-deps",
        "--require-hashes",
        "--progress-spinner",
        "off",
        "--format",
        "json",
    ]
    done = subprocess.run([*command, "-r", ROOT / case], cwd=folder, capture_output=True, text=True)
    try:
        parts = json.loads(done.stdout)["dependencies"]
    except ValueError:
        raise NotChecked(f"pip-audit gave no answer: {' '.join(done.stderr.split())[-200:]}") from None
    weak = [f"{part['name']} {part['version']}: {weakness['id']}" for part in parts for weakness in part.get("vulns", [])]
    if weak:
        raise AcceptedWrongly("; ".join(weak))
    # what it could not look up it skips, and ends as if all were well
    if skipped := [part["skip_reason"] for part in parts if "skip_reason" in part]:
        raise NotChecked(f"the database said nothing of {len(skipped)} of {len(parts)} packages ({skipped[0]})")


def run_rules(case, folder):
    """ruff's rules on security, over everything."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", case, "--output-format", "concise", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise AcceptedWrongly(" ".join(done.stdout.split())[:500])


KINDS = {
    "sources": Kind(st.sampled_from(SOURCES), run_source, share=200, smallest=False),
    "locks": Kind(st.sampled_from(LOCKS), run_lock, share=10, smallest=False),
    "parts": Kind(st.sampled_from(["requirements.lock"]), run_parts, spawns=True, seconds=300, share=10, smallest=False),
    "known weaknesses": Kind(st.sampled_from(LOCKS), run_audit, spawns=True, seconds=300, share=10, smallest=False),
    "rules": Kind(st.sampled_from(["S"]), run_rules, spawns=True, share=10, smallest=False),
}
