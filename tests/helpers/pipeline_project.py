"""The real pipeline, small, in a repository of its own: this project's code, synthetic digits, small parameters."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
ALL = ["fetch", "normalize", "judge", "train", "evaluate", "gallery", "report"]
TRAIN_COUNT, TEST_COUNT = 3000, 600
SMALL = {
    "normalize": {"train_count": TRAIN_COUNT, "test_count": TEST_COUNT},
    "train": {"steps": 101, "batch_size": 32, "trajectory_points": 2},
}


class Project:
    """A temporary repository with this project's code, synthetic digits and small parameters."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("commands", "flows", "gan", "sets", "stages"):
            shutil.copytree(ROOT / name, folder / name)
        for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", "Makefile"):
            shutil.copy(ROOT / name, folder / name)
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MNIST_SOURCE": str(folder.parent / "source"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_GLOBAL": str(ROOT / "tests/helpers/gitconfig"),
        }
        for command in (
            ["git", "init", "-q", "-b", "main"],
            ["git", "config", "user.name", "A Tester"],
            ["git", "config", "user.email", "tester@example.org"],
            ["dvc", "init", "-q"],
        ):
            self.run(*command)
        files = write_source(folder.parent / "source")
        self.edit(lambda params: (params["fetch"].update(files=files), params["judge"].update(sample_count=500)))
        self.edit(lambda params: params["judge"]["classifier"].update(epochs=1))
        for section, values in SMALL.items():
            self.edit(lambda params, section=section, values=values: params[section].update(values))
        self.commit("start")

    def run(self, *command, check=True):
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
        )
        assert not check or result.returncode == 0, f"{command}: {result.returncode}\n{result.stdout}"
        return result.stdout if check else result

    def read_json(self, *command):
        """What the command prints as JSON; its notes on stderr are left out."""
        command = [*command, "--json"]
        result = subprocess.run(command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, check=True)
        return json.loads(result.stdout)

    def repro(self, *options):
        """Run `dvc repro`; returns which stages (ran, came from the run cache)."""
        output = self.run("dvc", "repro", *options)
        ran = re.findall(r"^Running stage '(\w+)'", output, re.M)
        return ran, re.findall(r"^Stage '(\w+)' is cached - skipping run", output, re.M)

    def edit(self, change):
        yaml = YAML()
        params = yaml.load(self.folder / "params.yaml")
        change(params)
        yaml.dump(params, self.folder / "params.yaml")

    def commit(self, message):
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)

    def restore(self):
        """Do what `make restore` does, without making an environment; what it says."""
        return self.run("make", "restore", "--no-print-directory", "--old-file=env", f"BIN={Path(sys.executable).parent}")

    def digests(self):
        data = self.folder / "data"
        files = [path for path in data.rglob("*") if path.is_file() and path.name != ".gitignore" and "timings" not in path.parts]
        return {str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write_source(folder):
    """Synthetic digits, a bar whose place tells the class, as four IDX files; returns what `fetch.files` says of them."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    described = {}
    for name, count in (("train", TRAIN_COUNT), ("t10k", TEST_COUNT)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 60, (count, 28, 28), np.uint8)
        for index, label in enumerate(labels):
            images[index, 4:24, 4 + 2 * label : 7 + 2 * label] = rng.integers(180, 256, (20, 3))
        for kind, array, magic in (("images-idx3", images, 0x803), ("labels-idx1", labels, 0x801)):
            content = magic.to_bytes(4, "big") + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()
            path = folder / f"{name}-{kind}-ubyte"
            path.write_bytes(content)
            described[path.name] = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return described
