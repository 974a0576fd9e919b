"""A job whose gradients do not depend on the device, and so neither may its weights. Prints a digest of them."""

from __future__ import annotations

import hashlib
import sys

import numpy as np

import ps
from ps import xp

SHAPES = {"w": (300, 700), "b": (700,), "scalar": (), "v": (1_500_000,)}
"""More than one chunk, and some that share one."""


def gradient(name: str, step: int, rank: int) -> np.ndarray:
    """Return a gradient that is the same on every side."""
    rng = np.random.default_rng([len(name), step, rank])
    return rng.standard_normal(SHAPES[name]).astype(np.float32)


def main() -> None:
    way = sys.argv[1]
    with ps.connect(optimizer="adam:lr=0.01") as kv:
        params = kv.init({name: np.ones(shape, np.float32) for name, shape in SHAPES.items()})
        expected = "cpu" if str(kv.device) == "cpu" else "device"
        assert all(xp.is_host(value) == (expected == "cpu") for value in params.values()), kv.device
        for step in range(6):
            grads = {name: kv.device.array(np.asarray(gradient(name, step, kv.rank))) for name in SHAPES}
            if way == "ready":
                for name in reversed(SHAPES):
                    kv.ready(name, grads[name])
                kv.step()
            elif way == "own":  # in the arrays that kv.grads offers
                for name, array in kv.grads.items():
                    xp.copy(grads[name], array)
                kv.step(kv.grads)
            elif way == "verbs":
                out = {name: kv.device.array(np.zeros(shape, np.float32)) for name, shape in SHAPES.items()}
                kv.wait(kv.push(grads))
                kv.wait(kv.pull(out))
                kv.wait(kv.pull())
                assert all((out[name] == kv.params[name]).all() for name in SHAPES)
            else:
                kv.step(grads)
        kv.barrier()
        digest = hashlib.sha256(b"".join(xp.to_host(kv.params[name]).tobytes() for name in SHAPES)).hexdigest()
        print(f"rank {kv.rank} digest {digest}", flush=True)


if __name__ == "__main__":
    main()
