"""1,797 real handwritten digits that come with scikit-learn, in the shape of MNIST's: real data for tests without a download."""

import contextlib
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML
from sklearn.datasets import load_digits

from tests.helpers.tensorflow import THREADS

ROOT = Path(__file__).resolve().parents[2]


def small_digits(seed=0):
    """Training images float32 [1200, 28, 28, 1] in [-1, 1], their labels uint8 [1200], and 597 test images and labels."""
    digits = load_digits()
    pixels = digits.images.repeat(3, axis=1).repeat(3, axis=2)  # [n, 24, 24] in 0..16
    images = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))[..., None].astype(np.float32) / 8 - 1
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order], digits.target[order].astype(np.uint8)
    return images[:1200], labels[:1200], images[1200:], labels[1200:]


def write_normalized(folder):
    """Write the digits as the normalize stage would, below `folder`."""
    folder = folder / "data/normalized"
    folder.mkdir(parents=True)
    names = ("train_images", "train_labels", "test_images", "test_labels")
    for name, array in zip(names, small_digits(), strict=True):
        np.save(folder / f"{name}.npy", array)


def make_workplace(folder, **changes):
    """Make a folder in which judge and evaluate run on the digits; `changes` are keys of the sections by section name."""
    write_normalized(folder)
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["judge"].update(sample_count=500, threads=THREADS)
    params["evaluate"].update(threads=THREADS)
    params["judge"]["classifier"].update(epochs=8, batch_size=50, learning_rate=0.005)
    for section, values in changes.items():
        params[section].update(values)
    yaml.dump(params, folder / "params.yaml")
    return folder


def run_here(name, folder):
    """Run a stage's main() in `folder`, in this process: much faster than `run_stage`, since TensorFlow is there already."""
    with contextlib.chdir(folder):
        importlib.import_module(f"stages.{name}").main()


def run_stage(name, folder):
    """Run a stage in `folder` as a command: (exit code, everything it printed)."""
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{name}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    return done.returncode, done.stdout
