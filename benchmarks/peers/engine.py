"""Ours, the engine with the parameters of a set. Also writes the draws that all peers are checked with."""

import json
import sys
from pathlib import Path

from benchmarks.peers.protocol import read_labels, serve


class Peer:
    """The engine, a block of steps a call."""

    def __init__(self, images):
        from gan.params import parse_section
        from gan.training.params import TrainParams

        params = parse_section(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")), "train", TrainParams)
        params.start_tensorflow()
        from gan.training.engine import BLOCK_STEPS, Engine

        self._block_steps = BLOCK_STEPS
        self._engine = Engine(params, images, read_labels(sys.argv[1]) if params.conditional else None)
        self._state = self._engine.initial_state()
        self._step = 0

    def run(self, count):
        for _ in range(-(-count // self._block_steps)):
            self._state, _ = self._engine.advance(self._state, self._step, self._block_steps)
            self._step += self._block_steps
        return -(-count // self._block_steps) * self._block_steps

    def losses(self, draws):
        steps = len(draws["indices"])
        return self._engine.advance(self._engine.initial_state(), 0, steps)[1]

    def write_draws(self, path, steps):
        """Save the initial weights and the first `steps` steps' random numbers to the .npz file `path`."""
        import numpy as np

        state = self._engine.initial_state()
        arrays = {f"generator_{i}": w.numpy() for i, w in enumerate(state["g"])}
        arrays |= {f"discriminator_{i}": w.numpy() for i, w in enumerate(state["d"])}
        for name, block in self._engine.draws(0).items():
            arrays[name] = block.numpy()[:steps]
        np.savez(path, **arrays)


if __name__ == "__main__":
    serve(Peer)
