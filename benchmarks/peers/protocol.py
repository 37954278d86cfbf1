"""How a peer talks to `benchmarks/train_speed.py`: one process each, a JSON line in and a JSON line out.

A peer is a class made from images uint8 [n, 28, 28, 1] with

- `run(count)`: train about `count` steps with random numbers of its own and return how many it did, when they are really done;
- `losses(draws)`: start again from given weights, train on given random numbers, and return float [steps, 3] (G loss, D loss, D
  accuracy in percent), or `None` if it has none to compare.

`draws` holds arrays: generator_<i> and discriminator_<i> (weights in Keras' order, kernels [in, out]), indices int32
[steps, batch], d_latents and g_latents float32 [steps, batch, latent_dim].
"""

import json
import os
import resource
import sys
import time
from types import SimpleNamespace

BATCH_SIZE = 300
LATENT_DIM = 100
LEAKY_SLOPE = 0.01
LEARNING_RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-7


def serve(make_peer):
    """Make the peer from the IDX file named on the command line, train its first step, and answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    peer = make_peer(read_images(sys.argv[1]))
    peer.run(1)
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(_answer(peer, request)), file=answers)


def require_images(path):
    """Raise DataError unless the IDX file at `path` (a Path) is there and holds images of 28 x 28."""
    from gan.errors import DataError

    if not path.is_file():
        raise DataError(f"{path} is missing; run `dvc repro fetch`")
    with open(path, "rb") as file:
        header = [int.from_bytes(file.read(4), "big") for _ in range(4)]
    count = header[1]
    if header != [0x803, count, 28, 28] or count < 1 or path.stat().st_size != 16 + 784 * count:
        raise DataError(f"{path}: not an IDX file of images of 28 x 28")


def read_images(path):
    """The images of an IDX file as uint8 [n, 28, 28, 1]."""
    import numpy as np

    return np.fromfile(path, np.uint8, offset=16).reshape(-1, 28, 28, 1)


def read_labels(path):
    """The labels uint8 [n] of the IDX file beside that of the images at `path`."""
    import numpy as np

    return np.fromfile(path.replace("images-idx3", "labels-idx1"), np.uint8, offset=8)


def read_set(path):
    """The section `train` of a JSON file, sections in it as namespaces too."""
    with open(path, encoding="utf-8") as file:
        return json.load(file, object_hook=lambda section: SimpleNamespace(**section))


def split_weights(draws):
    """The generator's six and the discriminator's four arrays out of `draws`."""
    return [draws[f"generator_{i}"] for i in range(6)], [draws[f"discriminator_{i}"] for i in range(4)]


def glorot_weights(seed):
    """Fresh weights of both networks, as `split_weights` gives them: Glorot uniform kernels, zero biases."""
    import numpy as np

    rng = np.random.default_rng(seed)

    def network(*widths):
        weights = []
        for rows, columns in zip(widths, widths[1:], strict=False):
            limit = np.sqrt(6 / (rows + columns))
            weights += [rng.uniform(-limit, limit, (rows, columns)).astype(np.float32), np.zeros(columns, np.float32)]
        return weights

    return network(LATENT_DIM, 128, 128, 784), network(784, 128, 1)


def _answer(peer, request):
    if request["do"] == "run":
        started = time.perf_counter()
        steps = 0
        while (seconds := time.perf_counter() - started) < request["seconds"]:
            steps += peer.run(request["steps_a_look"])
        return {"steps": steps, "seconds": seconds}
    if request["do"] == "write_draws":
        peer.write_draws(request["path"], request["steps"])
        return {}
    if request["do"] == "losses":
        import numpy as np

        with np.load(request["draws"]) as draws:
            losses = peer.losses(dict(draws))
        return {"losses": None if losses is None else np.asarray(losses, np.float64).tolist()}
    # kilobytes on Linux, bytes on macOS
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
