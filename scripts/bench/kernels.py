"""What compiled loops gain over NumPy's lines: the same work with both, in turns, in one run.

    python scripts/bench/kernels.py                 arithmetic alone, on one thread
    python scripts/bench/kernels.py --steps         and steps of one worker in shared memory, by dtype and optimizer

The limit is ``w -= g`` in place. A step is one of ``--size`` parameters with one server; "private" is ``--params
private``, "own" has gradients in arrays of the script's. Arithmetic is done by chunks of 2 MB. Medians;
``--lowest`` gives the lowest turn of steps, which others on the same machine disturb least.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import textwrap
import time
from collections.abc import Callable
from unittest import mock

import ml_dtypes
import numpy as np
from limits import in_place_update, machine
from local_cluster import cluster
from outfile import outfile

import ps
from ps import native
from ps.aggregators.running_sum import RunningSum
from ps.compress import CODECS, Codec, Key
from ps.optim import OPTIMIZERS, WeightedSum, apply, square_sum
from ps.optim.limit import copy_within, within_limit

CHUNK = 500_000
"""Parameters that are updated at once, as a server does with a chunk: 2 MB of float32."""
Middle = Callable[[list[float]], float]
KINDS = (native.NUMPY, native.NATIVE)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
STEPS = {
    "float32, sgd": ("float32", "sgd:lr=1e-3"),
    "float32, sgd, unchecked": ("float32", "sgd:lr=1e-3", "--on-nan", "ignore"),
    "float32, sgd, own": ("float32", "sgd:lr=1e-3"),
    "float32, sgd, private": ("float32", "sgd:lr=1e-3", "--params", "private"),
    "bfloat16, sgd": ("bfloat16", "sgd:lr=1e-3"),
    "float16, sgd": ("float16", "sgd:lr=1e-3"),
    "float32, adam": ("float32", "adam:lr=1e-3"),
    "bfloat16, adam": ("bfloat16", "adam:lr=1e-3"),
    "float16, adam": ("float16", "adam:lr=1e-3"),
}


def updates(size: int) -> dict[str, Callable[[], object]]:
    """Return what a server and a worker do with whole vectors."""
    rng = np.random.default_rng(0)
    w, other = (rng.standard_normal(size, np.float32) for _ in range(2))
    g = [rng.standard_normal(size, np.float32) for _ in range(4)]
    half, copy = g[0].astype(BFLOAT16), np.zeros(size, BFLOAT16)
    half16, copy16 = g[0].astype(np.float16), np.zeros(size, np.float16)
    found: dict[str, Callable[[], object]] = {}

    def step(text: str, gradient: object, **more: object) -> Callable[[], object]:
        optimizer = OPTIMIZERS.parse(text).build()
        state = optimizer.init(w)
        return lambda: apply(optimizer, w, gradient, state, lr=1e-6, t=3, **more)  # type: ignore[arg-type]

    def decode(codec: Codec, frame: np.ndarray, key: Key) -> None:
        codec.open(frame, size, np.float32, key).write(other)

    for name in OPTIMIZERS:
        found[name] = step(name, g[0])
    for n in (2, 4):
        found[f"mean of {n}, sgd"] = step("sgd", WeightedSum(g[:n], [1.0] * n), scale=1 / n)
    found["mean of 4 weights, sgd"] = step("sgd", WeightedSum(g, [1.0, 2.0, 3.0, 4.0]), scale=0.1)
    found["bfloat16, sgd"] = step("sgd", WeightedSum([half], [1.0]), half=copy)
    found["float16, sgd"] = step("sgd", WeightedSum([half16], [1.0]), half=copy16)
    found["sum of squares"] = lambda: square_sum(g[0])
    found["look for NaN"] = lambda: within_limit(g[0])
    found["copy and look"] = lambda: copy_within(other, g[0])
    running = RunningSum(size, w.dtype)
    running.add(g[0], 0.5)
    found["add a weighted delta"] = lambda: running.add(g[1], 1e-6)
    for text in ("bf16", "fp16", "int8"):
        codec, key = CODECS.parse(text).build(), Key(seed=0, clock=0, chunk=0, rank=0)
        frame = codec.encode(g[0], key, {}).copy()
        out = frame.copy()
        found[f"{text}: encode"] = lambda codec=codec, key=key, out=out: codec.encode(g[0], key, {}, out)
        found[f"{text}: decode"] = lambda codec=codec, key=key, frame=frame: decode(codec, frame, key)
    return found


def arithmetic(size: int, turns: int) -> dict[str, dict[str, float]]:
    """Return the median seconds of each case for ``size`` parameters, by kernels and of the limit, in chunks by turns.

    A chunk takes less than a busy machine leaves a process at a time, so that others disturb few of them.
    """
    chunks = max(1, size // CHUNK)
    sets, limits, results = [updates(CHUNK) for _ in range(chunks)], [in_place_update(CHUNK) for _ in range(chunks)], {}
    for name in sets[0]:
        found: dict[str, list[float]] = {kind: [] for kind in ("limit", *KINDS)}
        for turn in range(turns + 1):
            for cases, limit in zip(sets, limits, strict=True):
                for kind in (*found,)[:: 1 if turn % 2 else -1]:
                    if kind != "limit":
                        native.choose(kind)
                    work = limit if kind == "limit" else cases[name]
                    since = time.perf_counter()
                    work()
                    if turn:
                        found[kind].append((time.perf_counter() - since) * size / CHUNK)
        results[name] = {kind: statistics.median(times) for kind, times in found.items()}
        show(name, results[name])
    native.choose(native.AUTO)
    return results


def show(name: str, row: dict[str, float]) -> None:
    """Print a case's milliseconds, what is gained, and the limit over what is reached."""
    words = f"{row['numpy'] * 1e3:9.2f}{row['native'] * 1e3:9.2f}{row['numpy'] / row['native']:9.2f}"
    print(f"{name:24}{row['limit'] * 1e3:9.2f}{words}{row['limit'] / row['native']:9.2f}", flush=True)


def steps(size: int, turns: int, count: int, middle: Middle) -> dict[str, dict[str, float]]:
    """Return the median seconds of a step, by kernels, and of the in-place update."""
    limit, results = in_place_update(size), {}
    for name, (kind_of, optimizer, *flags) in STEPS.items():
        dtype = BFLOAT16 if kind_of == "bfloat16" else np.dtype(kind_of)
        found: dict[str, list[float]] = {kind: [] for kind in ("limit", *KINDS)}
        with contextlib.ExitStack() as stack:
            workers = {}
            for kind in KINDS:
                with mock.patch.dict(os.environ, {"PS_KERNELS": kind}):
                    address = stack.enter_context(cluster("--transport", "shm", "--optimizer", optimizer, *flags))
                    os.environ["PS_SCHEDULER"] = address
                    kv = workers[kind] = stack.enter_context(ps.connect())
                    kv.init({"w": np.ones(size, dtype)})
            own = {"w": np.full(size, 1e-6, dtype)}
            for _ in range(turns):
                since = time.perf_counter()
                for _ in range(count):
                    limit()
                found["limit"].append((time.perf_counter() - since) / count)
                for kind, kv in workers.items():
                    native.choose(kind)
                    grads = own if name.endswith("own") else kv.grads
                    grads["w"][...] = 1e-6
                    since = time.perf_counter()
                    for _ in range(count):
                        kv.step(grads)
                    found[kind].append((time.perf_counter() - since) / count)
        row = results[name] = {kind: middle(times) for kind, times in found.items()}
        show(name, row)
    native.choose(native.AUTO)
    return results


def main() -> None:
    """Print tables, and JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10_000_000, help="parameters (10 M)")
    parser.add_argument("--repeats", type=int, default=9, help="turns (9)")
    parser.add_argument("--steps", action="store_true", help="measure steps of a job too")
    parser.add_argument("--lowest", action="store_true", help="the lowest of the turns of steps instead of medians")
    parser.add_argument("--json", type=outfile, metavar="FILE", help="write the figures here as well")
    options = parser.parse_args()
    if native.kernels() is None:
        print(f"there is nothing to compare: {native.outcome(native.NATIVE)}")
        return
    middle: Middle = min if options.lowest else statistics.median
    host = machine()
    print(textwrap.fill(", ".join(f"{key} {value}" for key, value in host.items()), 80))
    print(
        f"{options.size:,} parameters, {'lowest' if options.lowest else 'medians'} of {options.repeats} turns in ms\n"
    )
    print(f"{'':24}{'limit':>9}{'NumPy':>9}{'native':>9}{'gain':>9}{'of limit':>9}")
    found = {"arithmetic": arithmetic(options.size, options.repeats)}
    if options.steps:
        print("\na step of one worker in shared memory", flush=True)
        found["steps"] = steps(options.size, options.repeats, 5, middle)
    if options.json:
        options.json.write_text(json.dumps({"machine": host, "size": options.size, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
