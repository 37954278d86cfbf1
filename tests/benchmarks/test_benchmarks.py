"""The arithmetic of the benchmarks: FLOP count, statistics and tables; nothing is trained or timed here."""

import dataclasses
import hashlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from benchmarks import engine_bytes, judges, parity, pipeline, sharing, stage_bytes, train_speed
from benchmarks.peers import conv_protocol
from gan import runtime
from gan.errors import UserError
from gan.lecture import PUBLISHED_LOG

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("judges", "noise", "train_speed", "parity", "pipeline", "engine_bytes", "stage_bytes")


def result(name, speeds, label="x"):
    return train_speed.Result(name, label, speeds, 500_000_000, 3.21)


def test_step_flops_by_hand():
    # multiply-adds of one image: discriminator 784*128 + 128*1 = 100,480, generator 100*128 + 128*128 + 128*784 = 129,536
    # two discriminator updates, each forward, weight gradients (all 100,480) and the hidden gradient (128): 402,176
    # generator forward twice and its weight gradients: 3 * 129,536; its hidden gradients: 129,536 - 12,800 = 116,736
    # in the generator's update the discriminator forward and back to the images: 2 * 100,480 = 200,960
    by_hand = 402_176 + 3 * 129_536 + 116_736 + 200_960
    assert sum(flops for _, flops in train_speed.step_products()) == 2 * 300 * by_hand == 665_088_000


def test_the_flops_of_a_step_of_convolutions_by_hand():
    # multiply-adds of one image: generator 74*49*32 + 49*9*32*32 + 49*9*32*64 + 196*9*16*16 + 196*9*16*4 = 2,035,264,
    # discriminator 196*9*4*16 + 49*16*16*32 + 1568*128 + 1280 = 716,288
    # the generator's first layer has no hidden gradient, 116,032, and the discriminator's in its own update neither, 112,896
    by_hand = 4 * 2_035_264 - 116_032 + 8 * 716_288 - 2 * 112_896 + 4 * 716_288 // 8
    for batch_size, images in ((None, 64), (128, 128)):
        train = train_speed.read_train("conditional-60s", batch_size=batch_size)
        assert sum(flops for _, flops in train_speed.products_of(train)) == 2 * images * by_hand
    assert train_speed.products_of(train_speed.read_train("lecture")) == train_speed.step_products()


def test_a_set_that_no_peer_trains_is_refused():
    with pytest.raises(UserError, match=r"unconditional-60s.yaml: the peers train the lecture's step and that of class-cond"):
        train_speed.read_train("unconditional-60s")
    with pytest.raises(UserError, match=r"nosuch.yaml: no such file"):
        train_speed.read_train("nosuch")


def test_a_batch_size_that_the_dense_peers_do_not_train_is_refused():
    assert train_speed.read_train("lecture", batch_size=300)["batch_size"] == 300
    with pytest.raises(UserError, match=r"lecture.yaml: the peers of dense sets train 300 images a step, not 64"):
        train_speed.read_train("lecture", batch_size=64)


def test_the_peers_of_convolutions_have_the_sets_networks_and_schedules(tensorflow):
    from gan.training import schedules
    from gan.training.networks import build_discriminator, build_generator

    content = train_speed.read_train("conditional-60s")
    train = json.loads(json.dumps(content), object_hook=lambda section: SimpleNamespace(**section))
    common = {"leaky_slope": 0.2, "seed": 0, "network": "conv"}
    models = (
        build_generator(latent_dim=train.latent_dim, units=train.generator_units, conditional=True, **common),
        build_discriminator(units=train.discriminator_units, classes=10, **common),
    )
    for model, weights in zip(models, conv_protocol.he_weights(train), strict=True):
        assert [weight.shape for weight in model.get_weights()] == [weight.shape for weight in weights]
    shares = {"constant_share": train.constant_rate_share, "final_share": train.final_rate_share}
    for step in (0, 100, 1000, train.steps // 2, train.steps - 1):
        factor = schedules.rate_factor(tensorflow.constant(step), steps=train.steps, warm_up_steps=train.warm_up_steps, **shares)
        assert conv_protocol.rate_factor(train, step) == pytest.approx(float(factor), rel=1e-4)
        decay = schedules.average_decay(tensorflow.constant(step), train.ema_decay, train.ema_gamma)
        assert conv_protocol.average_decay(train, step) == pytest.approx(float(decay))


def test_report_relates_everything_to_the_engine_and_the_peak():
    products = [("everything", 2 * 10**9)]
    peak = 100e9 / train_speed.PEAK_FLOPS  # products a second that make 100 GFLOP/s
    results = [result("peak", [peak]), result("ours", [25, 20, 30], "us"), result("numpy", [5, 6, 4.5], "np")]
    text = train_speed.report(results, products, rounds=3, seconds=1)
    assert "Peak: 100 GFLOP/s in float32, so at best 50 steps/s." in text
    assert "| np | 5.0 (4.5-6.0) | 0.20 | 10% | 0.50 GB | 3.2 s |" in text
    assert "| us | 25.0 (20.0-30.0) | 1.00 | 50% | 0.50 GB | 3.2 s |" in text
    assert text.index("| np |") < text.index("| us |")
    kept = dataclasses.replace(results[1], restart_seconds=0.5)
    text = train_speed.report([results[0], kept], products, rounds=3, seconds=1)
    assert "| 0.50 GB | 3.2 s (0.5 s with its kernels compiled) |" in text


def test_largest_differences_are_relative_for_losses_and_absolute_for_accuracies():
    assert train_speed.largest_differences([(1.0, 2.2, 90.0), (2.0, 1.0, 80.0)], [(1.0, 2.0, 91.0), (2.0, 1.0, 83.0)]) == (
        pytest.approx(0.1),
        3.0,
    )


def test_a_row_of_what_sharing_costs():
    cost = sharing.Cost("nothing to do", [2.0, 1.0, 4.0], [1_000_000, 5, 2_000_000], [3000, 3000, 3000])
    assert sharing.table([cost]).splitlines()[-1] == "| nothing to do | 2.0 s | 1.0-4.0 s | 1.000 MB | 0.003 MB |"


def test_bytes_are_counted_in_both_directions():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        counter = sharing.Counter(listener.getsockname()[1])
        with socket.create_connection(("127.0.0.1", counter.port)) as client:
            server, _ = listener.accept()
            with server:
                client.sendall(b"asked")
                assert server.recv(100) == b"asked"
                server.sendall(b"answered")
                assert client.recv(100) == b"answered"
        counter.close()
    assert (counter.sent, counter.received) == (5, 8)


def test_a_check_with_nan_fails():
    class Child:
        def __init__(self, losses):
            self.losses = losses

        def ask(self, do, **details):
            return {"losses": self.losses}

    good, bad = [[1.0, 1.0, 50.0]], [[math.nan, 1.0, 50.0]]
    children = {"ours": Child(good), "numpy": Child(good), "jax": Child(bad), "products": Child(None)}
    assert [failure.split(":")[0] for failure in train_speed.check(children, 20)] == ["jax"]


def test_prediction_z_by_hand():
    # 1, 2, 3: mean 2, standard deviation 1; one more draw deviates by sqrt(1 + 1/3) = 1.1547
    assert parity.prediction_z(4, [1, 2, 3]) == pytest.approx(2 / 1.1547, rel=1e-4)
    assert parity.prediction_z(100.0, [100.0, 100.0]) == 0
    assert parity.prediction_z(99.0, [100.0, 100.0]) == -math.inf


def test_parity_report_marks_what_lies_outside():
    near = [[list(figures) for figures in history(shift)] for shift in (-0.05, 0.05, 0.0)]
    assert "0 of 30 figures" in parity.report([h[:500] for h in near])
    far = [[[g + 5, d, a] for g, d, a in h] for h in near]
    assert "20 of 60 figures" in parity.report(far)  # all nineteen lines and the tail's mean


def history(shift):
    rows = [(0.0, 0.0, 0.0)] * 5001
    for step, figures in PUBLISHED_LOG.items():
        rows[step] = tuple(figure + shift for figure in figures)
    return rows


def test_published_tail_is_the_one_of_the_lecture():
    label, published, _ = list(parity.comparisons([history(0), history(1)], 5001))[-1]
    assert label == "mean of 4600-5000"
    assert published == pytest.approx([4.289, 0.223, 91.7], abs=0.05)


def test_pipeline_notes_of_a_process(tmp_path):
    assert pipeline.parse_log("imports 0.25\nprocess -m stages.x 100.5 103.0\n") == (100.5, 2.5, 0.25)
    environment = pipeline.stage_environment(tmp_path)
    program = "import time; began = time.time(); import colorsys, wave; print(time.time() - began)"
    done = subprocess.run(["python", "-c", program], env=environment, capture_output=True, text=True, check=True)
    (path,) = (tmp_path / "log").iterdir()
    _, seconds, imports = pipeline.parse_log(path.read_text())
    assert float(done.stdout) <= imports + 0.01 < seconds + 0.01


def test_tables_of_pipeline():
    stages = {"fetch": {"wall": 3.0, "process": 2.0, "imports": 0.5}, "train": {"wall": 7.0, "process": 6.0, "imports": 2.0}}
    text = pipeline.stage_table(stages, 10.0, 4.0)
    assert "| fetch | 3.0 s | 2.0 s | 1.0 s | 0.5 s | 1.5 s |" in text
    assert "| all | 10.0 s | 8.0 s | 2.0 s | 2.5 s | 5.5 s |" in text
    assert "4.0 s, 40% of all" in text
    assert "| x | 2.0 s | 1.0-9.0 s |" in pipeline.idle_table({"x": [1, 2, 9]})


def test_engine_bytes_compares_digests_and_speeds_round_by_round():
    def rounds(*pairs):
        return [{"sha256": digit * 64, "steps_per_second": speed} for digit, speed in pairs]

    same, other, unsteady = rounds(("a", 10), ("a", 30)), rounds(("b", 9), ("b", 15)), rounds(("a", 10), ("d", 30))
    text = engine_bytes.table({"shipped": same, "other": other, "unsteady": unsteady}, 5)
    assert "| shipped | `aaaaaaaaaaaa` | yes | 20 | 1.00 |" in text
    assert "| other | `bbbbbbbbbbbb` | no | 12 | 0.70 |" in text
    assert "| unsteady | `aaaaaaaaaaaa`, `dddddddddddd` | no | 20 | 1.00 |" in text


def test_engine_bytes_leaves_out_what_the_processor_lacks_and_says_what_must_not_differ(monkeypatch, capsys):
    no_such = {"what": ({"no_such_flag"}, "X", "X"), **runtime.INSTRUCTIONS}
    monkeypatch.setattr(runtime, "INSTRUCTIONS", no_such)
    assert engine_bytes.refused("the newest", {"instructions": "what"})
    assert "the newest: left out: instructions = 'what'" in capsys.readouterr().err
    assert not any(engine_bytes.refused("x", changes) for changes in ({}, {"threads": 1}, {"instructions": "native"}))

    shipped, again, avx512 = list(engine_bytes.SETTINGS)[0], "the same again", "instructions: avx512"
    same, other = ([{"sha256": digit * 64, "steps_per_second": 10}] for digit in "ab")
    assert "| instructions: avx512 | – | – | – | – |" in engine_bytes.table({shipped: same, avx512: []}, 5)
    assert engine_bytes.differing({shipped: same, again: same, avx512: other}) == []
    assert engine_bytes.differing({shipped: same, again: other, avx512: []}) == [again]


def test_stage_bytes_are_alike_where_no_stage_failed_and_no_output_differs():
    good, failed = {"data/a": "a" * 64}, {"stage a": "ended with code 1"}
    assert stage_bytes.alike({"here": good}) and stage_bytes.alike({"here": good, "there": dict(good)})
    for there in ({"data/a": "b" * 64}, {}, good | failed, good | {"data/b": "b" * 64}):
        assert not stage_bytes.alike({"here": good, "there": there})
    assert not stage_bytes.alike({"here": failed, "there": failed})


def test_stage_bytes_compares_every_output_with_the_first_setting():
    first = {"data/a": "a" * 64, "data/b": "b" * 64, "data/c": "c" * 64}
    other = {"data/a": "a" * 64, "data/b": "d" * 64, "stage c": "ended with code 1"}
    text = stage_bytes.table({"here": first, "there": other})
    assert "| output | here | there |" in text
    assert "| data/a | `aaaaaaaaaaaa` | same |" in text
    assert "| data/b | `bbbbbbbbbbbb` | `dddddddddddd` |" in text
    assert "| data/c | `cccccccccccc` | - |" in text
    assert "| stage c | - | ended with code 1 |" in text


@pytest.mark.parametrize("shade", ["gray", "black"])
def test_stage_bytes_finds_what_a_stage_writes_and_which_one_fails(shade, tmp_path):
    write = (
        "import os, pathlib, sys; assert not sys.argv[1:];"
        "[pathlib.Path('data', name).write_text(os.environ['SHADE']) for name in ('before', 'after')]"
    )
    for name, content in (("data/before", "old"), ("stages/__init__.py", ""), ("stages/gallery.py", "raise SystemExit(3)")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "stages/report.py").write_text(write)
    found = stage_bytes.run_stages(tmp_path, ["gallery", "report"], "here", SHADE=shade)
    assert found == {"stage gallery": "ended with code 3", "data/after": hashlib.sha256(shade.encode()).hexdigest()}


def test_real_process_speaks_the_protocol(tmp_path):
    images = tmp_path / "images"
    images.write_bytes(bytes(16) + os.urandom(400 * 784))
    child = train_speed.Child(train_speed.DENSE_PEERS["numpy"], sys.executable, images, tmp_path / "set.json", tmp_path)
    try:
        assert child.start_seconds > 0
        assert child.ask("run", seconds=0.05, steps_a_look=1)["steps"] > 0
        assert child.result("numpy", [1.0]).peak_bytes > 10**7
        child.restart()
        assert child.result("numpy", [1.0]).restart_seconds > 0
    finally:
        child.end()


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script):
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "Markdown" in done.stdout or "Prints" in done.stdout or "prints" in done.stdout


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("judges --log /nosuch/x {images}", "--log: [Errno 2]"),
        ("train_speed --seconds nan --peers numpy --images {images}", "--seconds must be positive"),
        ("train_speed --peers numpy --images {other}", "other: not an IDX file of images of 28 x 28"),
        ("engine_bytes --steps 0 --images {images}", "--steps must be at least 1"),
        ("engine_bytes --images {other}", "other: not an IDX file"),
        ("parity --steps 0 --images {images}", "--steps must be at least 1"),
        ("parity --images {other}", "other: not an IDX file"),
        ("stage_bytes --keep {folder}", "is not an empty folder"),
    ],
)
def test_odd_arguments_are_one_line_at_once(command, error, tmp_path):
    numbers = b"".join(number.to_bytes(4, "big") for number in (0x803, 2, 28, 28))
    (tmp_path / "images").write_bytes(numbers + bytes(2 * 784))
    (tmp_path / "other").write_bytes(b"no images" * 100)
    script, *words = command.format(images=tmp_path / "images", other=tmp_path / "other", folder=tmp_path).split()
    command = [sys.executable, "-m", f"benchmarks.{script}", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and error in done.stderr.splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_of_the_users_is_one_line():
    program = "import sys; from benchmarks.command import run_as_command; from gan.errors import DataError\n"
    program += "def main(): raise DataError('x: damaged')\nsys.argv = ['benchmarks/judges.py']; run_as_command(main)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "benchmarks/judges.py: x: damaged\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_pipeline_leaves_no_process_and_no_folder(number, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks.pipeline"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "from scratch\n"
        assert process.stderr.readline() == "  fetch\n"
        begun = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        rest = process.stderr.read()
    assert (process.returncode, rest) == (130, "")
    assert begun and not any(map(lives, begun))
    assert not list(tmp_path.glob("bench-*"))


def test_the_users_dvc_cache_is_left_out(tmp_path):
    for name in ("user", "tree", "bench"):
        (tmp_path / name).mkdir()
    program = (
        "import pathlib, subprocess, sys; from benchmarks.command import leave_out_users_dvc\n"
        "show = lambda: print(subprocess.run([sys.executable, '-m', 'dvc', 'cache', 'dir'], cwd=sys.argv[1] + '/tree',"
        " capture_output=True, text=True, check=True).stdout.strip(), flush=True)\n"
        "show(); leave_out_users_dvc(pathlib.Path(sys.argv[1], 'bench')); show()"
    )
    environment = {**os.environ, "DVC_GLOBAL_CONFIG_DIR": str(tmp_path / "user")}
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--quiet", "--no-scm"], cwd=tmp_path / "tree", check=True, env=environment)
    (tmp_path / "user/config").write_text(f"[cache]\n    dir = {tmp_path}/users\n")
    command = [sys.executable, "-c", program, tmp_path]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    before, after = done.stdout.split()
    assert before.endswith("users") and after.endswith("tree/.dvc/cache")


def test_a_run_from_scratch_that_runs_nothing_is_refused(tmp_path):
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--quiet", "--no-scm"], cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(UserError, match="dvc repro ran no stage, so there is nothing to time"):
        pipeline.run_from_scratch(tmp_path, dict(os.environ), tmp_path)


def test_a_peer_that_is_stopped_before_its_first_step_ends(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho $$ >&2\nexec sleep 100\n")
    python.chmod(0o755)
    program = (
        "import sys; from benchmarks import train_speed as t; from benchmarks.command import run_as_command\n"
        "run_as_command(lambda: t.Child(t.DENSE_PEERS['numpy'], sys.argv[1], 'images', 'set', 'kernels'))"
    )
    with subprocess.Popen([sys.executable, "-c", program, python], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        peer = psutil.Process(int(process.stderr.readline()))
        process.send_signal(signal.SIGTERM)
        assert (process.wait(30), process.stderr.read()) == (130, "")
    assert not lives(peer)


def lives(process):
    """Whether a psutil.Process runs, or is still ending after some seconds."""
    deadline = time.monotonic() + 5
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return True
        time.sleep(0.05)
    return False


def test_judges_spread_stands_beside_the_stated_noise():
    by_judge = [{"fid": value, "fid_std": 0.5, "classes": 9, "classes_std": 0.0} for value in (50.0, 54.0)]
    # mean 52, deviation 4 / sqrt(2) = 2.828, 5.7 times 0.5
    assert "| fid | 52 | 2.828 | 0.500 | 5.7 | 50 - 54 |" in judges.table(by_judge, "judges")
    assert "| classes | 9.000 | 0.000 | 0.000 |  | 9.000 - 9.000 |" in judges.table(by_judge, "judges")


def test_a_disguised_processor_has_nothing_newer_than_avx2(tmp_path):
    try:
        library = stage_bytes.disguise_library(tmp_path)
    except UserError as error:
        pytest.skip(str(error))
    program = "from numpy._core._multiarray_umath import __cpu_features__ as has; print(has['AVX2'], has['AVX512F'])"
    environment = {**os.environ, "LD_PRELOAD": str(library), "DISGUISE": "AMD:A20F10"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
