"""Are the results the same on another machine? Runs every stage of the default set under settings that stand for other machines.

Each setting works in a folder of its own, from the same MNIST files: other cores, shells that ask for other kernels, this
processor disguised as models without AVX-512 (at its own speed; needs a C compiler and Linux' faulting of CPUID), and, where
qemu-user is installed, emulated processors without AVX-512 and with other caches. Prints a Markdown table: a row an output, a
column a setting, the start of the sha256 of the output, and for the settings after the first whether it is the same. Ends with 1
where a stage failed or an output differs.

    python -m benchmarks.stage_bytes                             # the default set in full: about two minutes a setting
    python -m benchmarks.stage_bytes --disguise                  # the same, with this processor as other models too
    python -m benchmarks.stage_bytes --small --emulate           # small parameters, fit for emulated processors
    python -m benchmarks.stage_bytes --small --emulate --set train.batch_size=56    # another parameter

Needs data/raw of the working tree: run `dvc repro fetch` first.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.command import run_as_command
from flows.overrides import apply
from gan.errors import UserError
from gan.kernels import pin_numpy

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("normalize", "judge", "train", "evaluate", "gallery", "report")
TIMINGS = Path("data/timings")
# label -> variables of the shell, and how many cores there are
SETTINGS = {
    "this machine": {},
    "once more": {},
    "one core": {"cores": 1},
    "a shell that asks for AVX-512": {
        "OPENBLAS_CORETYPE": "SkylakeX",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX512",
    },
    "a shell that asks for SSE": {
        "OPENBLAS_CORETYPE": "Nehalem",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    },
}
EMULATOR = "qemu-x86_64"
# The emulator's AVX2 finds wrong places in NumPy's `partition`, so NumPy has to do without; once on the machine itself as well.
WITHOUT_AVX2 = "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"
PROCESSORS = ("Haswell", "Skylake-Client", "EPYC-Rome")  # LLVM compiles for the second in a way of its own
EMULATED = {
    "NumPy without AVX2": {"numpy_without": WITHOUT_AVX2},
    **{f"emulated {name}": {"processor": name, "numpy_without": WITHOUT_AVX2} for name in PROCESSORS},
}
# Model -> what it answers to CPUID. LLVM compiles for several of them in ways of its own.
DISGUISES = {
    "Haswell": "306C3",
    "Broadwell": "306D4",
    "Skylake": "506E3",
    "Alder Lake": "90672",
    "Raptor Lake": "B0671",
    "Sierra Forest": "A06F0",
    "Zen": "AMD:800F11",
    "Zen 2": "AMD:830F10",
    "Zen 3": "AMD:A20F10",
}
RUN_STAGE = """
import runpy, sys
from gan import kernels
kernels._NUMPY_WITHOUT = sys.argv.pop() or kernels._NUMPY_WITHOUT
runpy.run_module(sys.argv.pop(), run_name="__main__", alter_sys=True)
"""
# What --small puts in place of params.yaml's values. The files of MNIST are cut to as many images.
SMALL_TRAIN, SMALL_TEST = 600, 300
SMALL = (
    f"normalize.train_count={SMALL_TRAIN}",
    f"normalize.test_count={SMALL_TEST}",
    "judge.sample_count=300",
    "judge.classifier.epochs=1",
    "judge.classifier.batch_size=50",
    "train.steps=27",  # a whole block of them and a part of one
    "train.log_every_steps=9",
    "train.trajectory_points=2",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few hundred images and 27 training steps")
    parser.add_argument("--emulate", action="store_true", help=f"emulated processors as well, by {EMULATOR}")
    parser.add_argument("--disguise", action="store_true", help="this processor as other models as well")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter, as in `gan flow`; repeatable",
    )
    parser.add_argument("--stages", default=",".join(STAGES), help="only these, in this order; each needs those before it")
    parser.add_argument("--only", default="", help="only settings with this text in their label; the first always runs")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this folder, and leave it")
    arguments = parser.parse_args()
    stages = arguments.stages.split(",")
    if unknown := [stage for stage in stages if stage not in STAGES]:
        parser.error(f"--stages: there is no {unknown[0]}; choose from {', '.join(STAGES)}")
    if arguments.keep and arguments.keep.exists() and (not arguments.keep.is_dir() or any(arguments.keep.iterdir())):
        parser.error(f"--keep: {arguments.keep} is not an empty folder")
    if not (ROOT / "data/raw/train-images-idx3-ubyte").exists():
        parser.error("data/raw is missing; run `dvc repro fetch`")
    if arguments.emulate and not shutil.which(EMULATOR):
        parser.error(f"{EMULATOR} is missing; install qemu-user (Debian's package), or leave --emulate out")
    settings = SETTINGS | (EMULATED if arguments.emulate else {})
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="bench-bytes-"))
    try:
        if arguments.disguise:
            folder.mkdir(parents=True, exist_ok=True)
            preload = {"LD_PRELOAD": str(disguise_library(folder))}
            settings |= {f"as {name}": {**preload, "DISGUISE": signature} for name, signature in DISGUISES.items()}
        chosen = {label: of for index, (label, of) in enumerate(settings.items()) if index == 0 or arguments.only in label}
        results = {}
        for number, (label, changes) in enumerate(chosen.items()):
            workplace = make_workplace(folder / str(number), small=arguments.small, overrides=arguments.overrides)
            results[label] = run_stages(workplace, stages, label, **changes)
        print(table(results))
        sys.exit(0 if alike(results) else 1)
    except UserError as error:
        parser.error(str(error))
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


def make_workplace(folder, *, small, overrides):
    """A folder with parameters and MNIST, whole or small, where the stages can work."""
    (folder / "data/raw").mkdir(parents=True)
    shutil.copytree(ROOT / "sets", folder / "sets")
    for path in (ROOT / "data/raw").iterdir():
        content = path.read_bytes()
        (folder / "data/raw" / path.name).write_bytes(first_items(path.name, content) if small else content)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(apply(text, [*(SMALL if small else ()), *overrides]), encoding="utf-8")
    return folder


def first_items(name, content):
    """The IDX file `content` (bytes) cut to the first images or labels that --small keeps."""
    count = SMALL_TRAIN if name.startswith("train") else SMALL_TEST
    header, item = (16, 784) if "images" in name else (8, 1)
    return content[:4] + count.to_bytes(4, "big") + content[8 : header + count * item]


def disguise_library(folder):
    """`disguise.c` compiled into `folder`. Raises UserError where there is no C compiler, or no processor that can do it."""
    library = folder / "disguise.so"
    try:
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(Path(__file__).with_name("disguise.c"))]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"--disguise needs a C compiler, cc: {error}") from None
    environment = {**os.environ, "LD_PRELOAD": str(library), "DISGUISE": DISGUISES["Skylake"]}
    if subprocess.run(["true"], env=environment, check=False).returncode:
        raise UserError("--disguise: this system cannot make CPUID fault")
    return library


def run_stages(folder, stages, label, *, cores=None, processor=None, numpy_without="", **variables):
    """Run the stages in `folder`; {output: its sha256}, and {stage: why it failed} in place of the outputs of one that did."""
    digests, seen = {}, set(files(folder))
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    for stage in stages:
        command = [sys.executable, "-c", RUN_STAGE, f"stages.{stage}", numpy_without]
        if processor:
            command = [EMULATOR, "-cpu", processor, *command]
        began = time.monotonic()
        print(f"{label}: {stage}", end="", file=sys.stderr, flush=True)
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            preexec_fn=(lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])) if cores else None,
        )
        print(f" {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        if done.returncode:
            print(done.stdout[-2000:], file=sys.stderr, flush=True)
            digests[f"stage {stage}"] = f"ended with code {done.returncode}"
            continue
        for path in files(folder):
            if path not in seen and not path.is_relative_to(TIMINGS):
                digests[path.as_posix()] = hashlib.sha256((folder / path).read_bytes()).hexdigest()
            seen.add(path)
    return digests


def files(folder):
    return sorted(path.relative_to(folder) for path in (folder / "data").rglob("*") if path.is_file())


def alike(results):
    """Whether no stage failed under any setting of `results`, as `table` takes them, and all have the same outputs."""
    first, *others = results.values()
    return not any(name.startswith("stage ") for name in first) and all(other == first for other in others)


def table(results):
    """Markdown from {setting: {output: sha256, or why there is none}}, the setting to compare with first."""
    first, *others = results
    lines = [f"| output | {' | '.join(results)} |", f"| --- |{' --- |' * len(results)}"]
    for name in dict.fromkeys(name for digests in results.values() for name in digests):
        expected = results[first].get(name)
        cells = [f"`{expected[:12]}`" if expected and " " not in expected else expected or "-"]
        for other in others:
            found = results[other].get(name)
            cells.append("-" if found is None else found if " " in found else "same" if found == expected else f"`{found[:12]}`")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    pin_numpy()
    run_as_command(main)
