"""Does the noise that `evaluate` states hold? Draws many samples of each generator; the judge of data/judge measures them all.

Prints a Markdown table for each generator: for each metric, its standard deviation over samples, which is what the stated noise
estimates, beside the mean of what is stated.

    python -m benchmarks.noise --samples 20 data/model/generator.keras

Needs data/normalized and data/judge of the working tree: run `dvc repro judge` first. A sample takes some seconds on two cores.
`--log` keeps each sample's metrics as a line of JSON.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.command import run_as_command  # noqa: E402 (run as a file, it must find the project)
from benchmarks.judges import compare  # noqa: E402

IMAGES = ROOT / "data/normalized/train_images.npy"
JUDGE, REFERENCE = ROOT / "data/judge/judge.keras", ROOT / "data/judge/reference.npz"


def main():
    compare(__doc__, measurements, varied="sample", option="--samples", default=20, inputs=[IMAGES, JUDGE, REFERENCE])


def measurements(generators, samples):
    """Yield (sample's seed, generator's path, its metrics)."""
    from gan.kernels import pin_numpy
    from gan.runtime import start_tensorflow

    pin_numpy()
    from gan.judge.params import EvaluateParams
    from gan.params import read_section

    start_tensorflow(read_section(ROOT / "params.yaml", "evaluate", EvaluateParams).threads)
    from gan.arrays import load_images
    from gan.generators import Sampler
    from gan.judge.classifier import outputs_of
    from gan.judge.evaluation import Evaluation
    from gan.judge.reference import Reference
    from gan.keras_files import load_model

    images = load_images(IMAGES, mmap=True)
    judge, reference = outputs_of(load_model(JUDGE)), Reference.load(REFERENCE)
    samplers = {str(path): Sampler(load_model(path)) for path in generators}
    for seed in range(samples):
        evaluation = Evaluation(judge, reference, images, seed=seed)
        for name, sampler in samplers.items():
            yield seed, name, evaluation.measure(sampler)


if __name__ == "__main__":
    run_as_command(main)
