"""Half precision against float32: time of a step and bytes of one worker, the same model, turn by turn in one run.

python scripts/bench/half.py [--parameters 10000000] [--turns 9] [--steps 20]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time

import ml_dtypes
import numpy as np
from local_cluster import cluster

import ps

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}


def main() -> None:
    """Print a line for each transport and optimizer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=10_000_000)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20, help="of one turn")
    parser.add_argument("--transport", action="append", help="of shm and tcp (default: both)")
    parser.add_argument("--optimizer", action="append", help="SPEC (default: sgd:lr=1e-3 and adam:lr=1e-3)")
    args = parser.parse_args()
    for transport in args.transport or ("shm", "tcp"):
        for optimizer in args.optimizer or ("sgd:lr=1e-3", "adam:lr=1e-3"):
            took, sent = race(args.parameters, args.turns, args.steps, transport, optimizer)
            words = ", ".join(f"{name} {took[name] / took['float32']:.2f} x" for name in list(DTYPES)[1:])
            share = sent["bfloat16"] / sent["float32"]
            whole = f"{1e3 * took['float32']:.1f} ms in float32"
            print(f"{transport} {optimizer.partition(':')[0]}: {whole}, {words}; bytes x {share:.3f}", flush=True)


def race(
    parameters: int, turns: int, steps: int, transport: str, optimizer: str
) -> tuple[dict[str, float], dict[str, int]]:
    """Return the median seconds of a step and the bytes that the worker sent in one, by dtype."""
    found: dict[str, list[float]] = {name: [] for name in DTYPES}
    sent = {}
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, dtype in DTYPES.items():
            os.environ["PS_SCHEDULER"] = stack.enter_context(
                cluster("--transport", transport, "--optimizer", optimizer)
            )
            kv = workers[name] = stack.enter_context(ps.connect())
            kv.init({"w": np.ones(parameters, dtype)})
        for _ in range(turns):
            for name, kv in workers.items():
                kv.grads["w"][...] = 1e-3
                before, since = kv._store.traffic.bytes_up, time.perf_counter()
                for _ in range(steps):
                    kv.step(kv.grads)
                found[name].append((time.perf_counter() - since) / steps)
                sent[name] = (kv._store.traffic.bytes_up - before) // steps
    return {name: statistics.median(times) for name, times in found.items()}, sent


if __name__ == "__main__":
    main()
