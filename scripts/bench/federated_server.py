"""Time a server's share of a round: take every delta in, check it, add it as the scheduler says, publish.

    OPENBLAS_NUM_THREADS=1 python scripts/bench/federated_server.py
    python scripts/bench/federated_server.py --deltas 100 --size 1000000 --json server.json

The limit is NumPy adding as many vectors without a look at them: total += delta, each from memory of its own. "mean"
and "weighted" are the whole of what a server does but its sockets, with equal weights and with another for each client:
an Upload, a RoundStatus for the scheduler, a RoundOrder with one entry for each delta, then prepare and publish.
"sum" is the weighted sum alone, each delta's norm included. Where the library for that has threads of its own, the
limit has none.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Callable

import numpy as np
from limits import interleave, machine
from outfile import outfile

from ps.aggregators.running_sum import RunningSum
from ps.config import JobConfig
from ps.protocol.layout import Layout
from ps.protocol.messages import Init, InitChunk, RoundOrder, Upload
from ps.server.job_key import JobKey
from ps.server.shard.federated_shard import FederatedShard

COLUMNS = ("limit", "sum", "mean", "weighted")


def limit(deltas: list[np.ndarray]) -> Callable[[], object]:
    """Return the sum as NumPy's own."""
    total = np.zeros_like(deltas[0])

    def case() -> None:
        for delta in deltas:
            np.add(total, delta, out=total)

    return case


def fold(deltas: list[np.ndarray], weights: list[float]) -> Callable[[], object]:
    """Return the weighted sum as a server makes it."""
    running = RunningSum(deltas[0].size, deltas[0].dtype)

    def case() -> None:
        for delta, weight in zip(deltas, weights, strict=True):
            assert math.isfinite(np.dot(delta, delta))
            running.add(delta, weight)
        running.take()

    return case


def serve(deltas: list[np.ndarray], weights: list[float]) -> Callable[[], object]:
    """Return one round of a server that holds the whole model."""
    size, numbers, key = deltas[0].size, itertools.count(1), JobKey.new()
    job = JobConfig(mode="federated", workers=len(deltas), chunk_size=32 << 20)
    shard = FederatedShard(0, job, key, threads=1)
    layout = Layout.of({"w": np.empty(size, np.float32)})
    shard.receive(b"", Init(1, 1, 1, job.chunk_bytes, layout.pack()), None, 0.0)
    shard.receive(b"", InitChunk(2, 1, 0), np.zeros(4 * size, np.uint8), 0.0)
    frames = [memoryview(delta).cast("B") for delta in deltas]

    def order(phase: str, first: int, entries: tuple[tuple[int, float, float, float], ...], count: int) -> None:
        shard.order(RoundOrder(shard.version, shard.version + 1, 0, phase, first, entries, count, (), 1.0, 1.0))

    def case() -> None:
        before = shard.version
        for number, (frame, weight) in enumerate(zip(frames, weights, strict=True)):
            task = next(numbers)
            shard.receive(b"", Upload(1, 1, task, shard.version, 0, 0, key.token(task, 0)), frame, 0.0)
            order("collect", number, ((task, weight, 1.0, 1.0),), number + 1)
        order("prepare", len(deltas), (), len(deltas))
        order("publish", len(deltas), (), len(deltas))
        assert shard.version == before + 1

    return case


def main() -> None:
    """Print a table, and JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deltas", type=int, default=1000, help="clients of the round (1000)")
    parser.add_argument("--size", type=int, default=200_000, help="float32 parameters (200,000)")
    parser.add_argument("--repeats", type=int, default=11, help="timed rounds (11)")
    parser.add_argument("--json", type=outfile, metavar="FILE", help="write the figures here as well")
    options = parser.parse_args()

    host = machine()
    print(", ".join(f"{key} {value}" for key, value in host.items()))
    print(f"{options.deltas:,} deltas of {options.size:,} float32, medians of {options.repeats} in ms\n")
    rng = np.random.default_rng(0)
    deltas = [rng.standard_normal(options.size, np.float32) for _ in range(options.deltas)]
    examples = rng.integers(1, 600, options.deltas).astype(float).tolist()
    cases = {
        "limit": limit(deltas),
        "sum": fold(deltas, examples),
        "mean": serve(deltas, [1.0] * len(deltas)),
        "weighted": serve(deltas, examples),
    }
    seconds = interleave(cases, options.repeats)
    ratios = {name: seconds[name] / seconds["limit"] for name in COLUMNS}
    for name in COLUMNS:
        print(f"{name:>10}{seconds[name] * 1e3:10.1f}{ratios[name]:8.2f}")
    if options.json:
        asked = {key: getattr(options, key) for key in ("deltas", "size", "repeats")}
        figures = {"machine": host, **asked, "seconds": seconds, "ratios": ratios}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
