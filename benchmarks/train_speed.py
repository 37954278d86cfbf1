"""How fast is a training step, beside other ways of writing the same one? Prints a Markdown table.

Every implementation runs in a process of its own, on the same two cores, with the images in memory, and all of them take turns
for several rounds, since a machine's speed drifts. For the lecture's set the peers are: the published loop made to train under
today's Keras, NumPy by hand, PyTorch eager and compiled, JAX with jit and scan, and our engine. For a set of class-conditional
convolutions (`--set conditional-60s`): PyTorch eager and compiled, with channels first and last, JAX, both in float32 and in
bfloat16, and our engine. Two yardsticks stand beside them: the step's convolutions and products alone, and the machine's peak
(one 2048 x 2048 x 2048 float32 product by the newest instructions that the set allows).

Before anything is timed, the peers are checked: from equal weights, on equal images and latents, their losses over the first
steps must agree with the engine's. A difference is printed and makes the exit code 1.

torch.compile keeps the kernels that g++ made for it in a folder. Here that is empty at first, and it starts a second time after.

`make bench` sets up the peers' environment (.venv-bench) and runs this.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a file, it must find the project

from benchmarks.command import end_group, refused_by, run_as_command  # noqa: E402
from benchmarks.peers.protocol import BATCH_SIZE, require_images  # noqa: E402
from flows.signals import signals_delayed  # noqa: E402
from gan.errors import UserError  # noqa: E402
from gan.images import CLASSES  # noqa: E402

CHECK_STEPS = {"dense": 20, "conv": 10}  # two of the ten with the penalty
LOSS_TOLERANCE = 0.01  # relative: float32 sums in another order, and another place of Adam's epsilon, after 20 steps
ACCURACY_TOLERANCE = 1.0  # in percent: 6 of 600 images
PEAK_FLOPS = 2 * 2048**3
WARM_UP_SECONDS = 0.3
THREADS = 2


@dataclasses.dataclass(frozen=True)
class Peer:
    """One implementation: label, module under benchmarks.peers, its arguments, and whether it needs the peers' environment."""

    label: str
    module: str
    arguments: tuple = ()
    foreign: bool = False
    steps_a_look: int = 10  # steps between two looks at the clock; one that works in blocks rounds it up
    keeps_kernels: bool = False  # on disk, so that its second start need not compile them


OURS, PRODUCTS, PEAK = "ours", "products", "peak"
DENSE_PEERS = {
    "published": Peer("published loop, Keras 3", "published", steps_a_look=1),
    "numpy": Peer("NumPy by hand", "numpy_hand"),
    "torch": Peer("PyTorch, fused Adam", "torch_eager", foreign=True),
    "torch-compile": Peer("PyTorch, torch.compile", "torch_eager", ("compile",), foreign=True, keeps_kernels=True),
    "jax": Peer("JAX, jit + scan, optax", "jax_scan", foreign=True),
    OURS: Peer("**this engine**", "engine"),
    PRODUCTS: Peer("matrix products only, XLA", "matrix_products"),
    PEAK: Peer("peak", "matrix_products", ("peak",), steps_a_look=1),
}


def _torch(*words):
    label = ", ".join(["PyTorch", *(word.replace("_", " ").replace("compile", "torch.compile") for word in words)])
    return Peer(label, "torch_conv", words, foreign=True, steps_a_look=1, keeps_kernels="compile" in words)


CONV_PEERS = {
    "torch": _torch("float32"),
    "torch-last": _torch("float32", "channels_last"),
    "torch-bf16": _torch("bfloat16"),
    "torch-bf16-last": _torch("bfloat16", "channels_last"),
    "torch-compile": _torch("float32", "channels_last", "compile"),
    "torch-bf16-compile": _torch("bfloat16", "channels_last", "compile"),
    "jax": Peer("JAX, jit, float32", "jax_conv", ("float32",), foreign=True),
    "jax-bf16": Peer("JAX, jit, bfloat16", "jax_conv", ("bfloat16",), foreign=True),
    OURS: Peer("**this engine**", "engine"),
    PRODUCTS: Peer("convolutions and products only", "conv_products"),
    PEAK: DENSE_PEERS[PEAK],
}
PEERS = {"dense": DENSE_PEERS, "conv": CONV_PEERS}  # by the set's network


def main():
    arguments = parse_arguments()
    pin_to_cores(THREADS)
    train, network = arguments.train, arguments.train["network"]
    peers = {name: peer for name, peer in PEERS[network].items() if name in {*arguments.peers, OURS, PEAK}}
    children = {}
    scratch = tempfile.TemporaryDirectory()
    set_file = Path(scratch.name) / "set.json"
    set_file.write_text(json.dumps(train))
    try:
        for name, peer in peers.items():
            log(f"starting {name}")
            children[name] = Child(peer, python_of(peer, arguments), arguments.images, set_file, scratch.name)
            if peer.keeps_kernels:
                log(f"starting {name} again, with the kernels that it compiled")
                children[name].restart()
        failures = check(children, CHECK_STEPS[network])
        speeds = {name: [] for name in peers}
        for number in range(arguments.rounds):
            log(f"round {number + 1} of {arguments.rounds}")
            for name in peers:
                speeds[name].append(children[name].speed(arguments.seconds))
        results = [child.result(name, speeds[name]) for name, child in children.items()]
    finally:
        for child in children.values():
            child.end()
        scratch.cleanup()
    print(report(results, products_of(train), rounds=arguments.rounds, seconds=arguments.seconds))
    for failure in failures:
        print(f"CHECK FAILED: {failure}")
    if not failures:
        print(f"Same work: all losses of the first {CHECK_STEPS[network]} steps agree within {LOSS_TOLERANCE:.0%}.")
    sys.exit(1 if failures else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="lecture", help="the file of sets/ whose step it is (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, help="images a step, of conv sets (default: the set's)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each implementation (default 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn (default 2)")
    parser.add_argument(
        "--peers",
        type=lambda text: text.split(","),
        help="comma-separated (default all); of lecture: "
        f"{','.join(DENSE_PEERS)}; of conv sets: {','.join(CONV_PEERS)}; {OURS} and {PEAK} always run",
    )
    parser.add_argument(
        "--images",
        type=Path,
        default=ROOT / "data/raw/train-images-idx3-ubyte",
        help="IDX file (default data/raw/, from the fetch stage)",
    )
    parser.add_argument(
        "--peers-python",
        type=Path,
        default=ROOT / ".venv-bench/bin/python",
        help="interpreter with JAX and PyTorch (default .venv-bench's)",
    )
    arguments = parser.parse_args()
    with refused_by(parser):
        require_images(arguments.images)
        arguments.train = read_train(arguments.set, batch_size=arguments.batch_size)
    peers = PEERS[arguments.train["network"]]
    arguments.peers = list(peers) if arguments.peers is None else arguments.peers
    unknown = set(arguments.peers) - set(peers)
    if unknown:
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}; known: {', '.join(peers)}")
    if arguments.rounds < 1 or not 0 < arguments.seconds < math.inf:  # written so that NaN is refused
        parser.error("--rounds and --seconds must be positive")
    arguments.images = arguments.images.resolve()
    foreign = any(peers[name].foreign for name in arguments.peers)
    if foreign and not arguments.peers_python.exists():
        parser.error(f"{arguments.peers_python} is missing; run `make bench`, or leave out the peers that need it with --peers")
    return arguments


def read_train(name, *, batch_size=None):
    """The section `train` of the set `name` on this machine, with another batch size if one is given.

    Raises UserError for a section that is wrong or that the peers cannot train.
    """
    from commands.sets import read_train as read_set
    from gan.params import parse_section
    from gan.training.params import TrainParams

    path = ROOT / "sets" / f"{name}.yaml"
    content = read_set(path)
    if batch_size is not None:
        content["batch_size"] = batch_size
    params = parse_section(content, "train", TrainParams, path)
    step = params.loss, params.update_order, params.r2_gamma, params.conditional, params.clusters
    peers_step = {"dense": ("non_saturating", "split", 0, False, 0), "conv": ("non_saturating", "alternating", 0, True, 0)}
    if step != peers_step[params.network]:
        raise UserError(f"{path}: the peers train the lecture's step and that of class-conditional, alternating sets alone")
    if params.network == "dense" and params.batch_size != BATCH_SIZE:
        raise UserError(f"{path}: the peers of dense sets train {BATCH_SIZE} images a step, not {params.batch_size}")
    return content


def python_of(peer, arguments):
    return str(arguments.peers_python.absolute()) if peer.foreign else sys.executable


def pin_to_cores(count):
    """Keep this process and its children on `count` cores, for libraries that take their number of threads from the machine."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


class Child:
    """A peer's process, from its start to its first step at once."""

    def __init__(self, peer, python, images, set_file, kernels):
        """Start `peer` on the set in the JSON file; it keeps compiled kernels, if it does, in the folder `kernels`."""
        self._peer = peer
        threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        self._command = [python, "-m", f"benchmarks.peers.{peer.module}", images, set_file, *peer.arguments]
        self._environment = {**os.environ, **threads, **quiet, "TORCHINDUCTOR_CACHE_DIR": str(kernels)}
        self.start_seconds = self._start()
        self.restart_seconds = None

    def restart(self):
        """End the process and start it again."""
        self.end()
        self.restart_seconds = self._start()

    def ask(self, do, **details):
        print(json.dumps({"do": do, **details}), file=self._process.stdin, flush=True)
        return self._answer()

    def speed(self, seconds):
        """Steps a second over at least `seconds`."""
        look = self._peer.steps_a_look
        self.ask("run", seconds=WARM_UP_SECONDS, steps_a_look=look)
        done = self.ask("run", seconds=seconds, steps_a_look=look)
        return done["steps"] / done["seconds"]

    def result(self, name, speeds):
        peak_bytes = self.ask("report")["peak_bytes"]
        return Result(name, self._peer.label, speeds, peak_bytes, self.start_seconds, self.restart_seconds)

    def end(self):
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        end_group(self._process)
        self._process.stdout.close()

    def _start(self):
        started = time.monotonic()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = None
        try:
            with signals_delayed():  # else one that comes while it starts would leave it
                self._process = subprocess.Popen(self._command, cwd=ROOT, env=self._environment, start_new_session=True, **pipes)
            self._answer()
        except BaseException:  # nobody has this object yet, to end it
            if self._process:
                end_group(self._process)
            raise
        return time.monotonic() - started

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self._peer.label}: its process ended with code {self._process.wait()}; its error stands above")
        return json.loads(line)


def check(children, steps):
    """Compare every peer's losses with the engine's on equal weights and random numbers; returns sentences about differences."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "draws.npz")
        children[OURS].ask("write_draws", path=path, steps=steps)
        losses = {name: child.ask("losses", draws=path)["losses"] for name, child in children.items()}
    expected = losses.pop(OURS)
    failures = []
    for name, rows in losses.items():
        if rows is not None:
            worst, difference = largest_differences(rows, expected)
            log(f"{name}: losses differ by at most {worst:.1e} (relative), accuracies by {difference:.2f} %")
            if not (worst <= LOSS_TOLERANCE and difference <= ACCURACY_TOLERANCE):  # written so that NaN fails
                failures.append(f"{name}: losses differ by {worst:.1%} from the engine's, accuracies by {difference:.1f} %")
    return failures


def largest_differences(rows, expected):
    """The largest relative difference of losses and the largest absolute one of accuracies, between lists of (G, D, accuracy)."""
    pairs = [(a, b) for row, other in zip(rows, expected, strict=True) for a, b in zip(row[:2], other[:2], strict=True)]
    losses = [abs(a - b) / abs(b) for a, b in pairs]
    accuracies = [abs(row[2] - other[2]) for row, other in zip(rows, expected, strict=True)]
    return max(losses), max(accuracies)


def products_of(train):
    """What one step of the set computes, as a list of (what for, FLOP)."""
    return conv_products(train) if train["network"] == "conv" else step_products()


def conv_products(train):
    """The convolutions and products of a class-conditional, alternating step as a list of (what for, FLOP)."""
    (coarse, fine), (d_fine, d_coarse, width) = train["generator_units"], train["discriminator_units"]
    g = [
        (train["latent_dim"] + CLASSES) * 49 * coarse,
        49 * 9 * coarse * coarse,
        49 * 9 * coarse * 4 * fine,
        196 * 9 * fine * fine,
        196 * 9 * fine * 4,
    ]
    d = [196 * 9 * 4 * d_fine, 49 * 16 * d_fine * d_coarse, 49 * d_coarse * width, width * CLASSES]
    penalty = 4 * sum(d) / train["penalty_every_steps"] if train["r1_gamma"] else 0
    counts = [
        ("discriminator update, forward", sum(d), 2),
        ("discriminator update, gradients of weights", sum(d), 2),
        ("discriminator update, gradients of hidden layers", sum(d[1:]), 2),
        ("penalty: forward, back to the images, and both again for the weights", penalty, 1),
        ("generator forward, for the fakes and for its update", sum(g), 2),
        ("discriminator forward, in the generator's update", sum(d), 1),
        ("discriminator backward, to the images", sum(d), 1),
        ("generator, gradients of weights", sum(g), 1),
        ("generator, gradients of hidden layers", sum(g[1:]), 1),
    ]
    return [(name, 2 * train["batch_size"] * multiply_adds * uses) for name, multiply_adds, uses in counts]


def step_products(*, batch=300, latent_dim=100, generator_units=(128, 128), discriminator_units=(128,), pixels=784):
    """The matrix products of one training step as a list of (what for, multiply-adds of one image, uses)."""
    g_widths, d_widths = [latent_dim, *generator_units, pixels], [pixels, *discriminator_units, 1]
    g = [rows * columns for rows, columns in zip(g_widths, g_widths[1:], strict=False)]
    d = [rows * columns for rows, columns in zip(d_widths, d_widths[1:], strict=False)]
    counts = [
        ("discriminator updates, forward", sum(d), 2),
        ("discriminator updates, gradients of weights", sum(d), 2),
        ("discriminator updates, gradients of hidden layers", sum(d[1:]), 2),
        ("generator forward, for the fakes and for its update", sum(g), 2),
        ("discriminator forward, in the generator's update", sum(d), 1),
        ("discriminator backward, to the images", sum(d), 1),
        ("generator, gradients of weights", sum(g), 1),
        ("generator, gradients of hidden layers", sum(g[1:]), 1),
    ]
    return [(name, 2 * batch * multiply_adds * uses) for name, multiply_adds, uses in counts]


@dataclasses.dataclass(frozen=True)
class Result:
    """What was measured of one peer: steps a second of each round, peak memory in bytes, seconds to the first step.

    `restart_seconds`: the same of a second start, for one that keeps compiled kernels.
    """

    name: str
    label: str
    speeds: list
    peak_bytes: int
    start_seconds: float
    restart_seconds: float | None = None

    @property
    def median(self):
        return statistics.median(self.speeds)


def report(results, products, *, rounds, seconds):
    """The Markdown that is printed: how the share of the peak comes about, and a row an implementation."""
    by_name = {result.name: result for result in results}
    step_flops = sum(flops for _, flops in products)
    peak = by_name[PEAK].median * PEAK_FLOPS
    lines = [
        f"One step takes {step_flops / 1e9:.3f} GFLOP in products and convolutions (2 a multiply-add, batch included):",
        *(f"  {flops / 1e6:6.1f} MFLOP  {name}" for name, flops in products),
        f"Peak: {peak / 1e9:.0f} GFLOP/s in float32, so at best {peak / step_flops:.0f} steps/s.",
        f"{rounds} rounds of {seconds:g} s each, taking turns; {THREADS} threads; median (lowest-highest).",
        "",
        "| implementation | steps/s | of this engine | share of peak | peak memory | start to first step |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    ours = by_name[OURS].speeds
    for result in sorted((r for r in results if r.name != PEAK), key=lambda r: r.median):
        start = f"{result.start_seconds:.1f} s"
        if result.restart_seconds is not None:
            start += f" ({result.restart_seconds:.1f} s with its kernels compiled)"
        # round by round, so that what slows a whole round, such as another program, slows both
        ratio = statistics.median(speed / our_speed for speed, our_speed in zip(result.speeds, ours, strict=True))
        lines.append(
            f"| {result.label} | {_round(result.median)} ({_round(min(result.speeds))}-{_round(max(result.speeds))}) "
            f"| {ratio:.2f} | {result.median * step_flops / peak:.0%} "
            f"| {result.peak_bytes / 1e9:.2f} GB | {start} |"
        )
    return "\n".join([*lines, ""])


def _round(speed):
    return f"{speed:.0f}" if speed >= 100 else f"{speed:.1f}"


def log(message):
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_as_command(main)
