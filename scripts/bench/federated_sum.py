"""Time what a server does with the deltas of a round: check each and add it, weighted, to the running sum.

    OPENBLAS_NUM_THREADS=1 python scripts/bench/federated_sum.py
    python scripts/bench/federated_sum.py --deltas 100 --size 1000000 --json sum.json

The limit is NumPy adding as many vectors without a look at them: total += delta, each from memory of its own. "mean"
adds with coefficient 1, "weighted" with one for each client; both take a dot product of each delta with itself
first, which is its norm and finds NaN and Inf. Where the library for that has threads of its own, the limit has none.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from limits import interleave, machine

from ps.server.aggregate.fold import Pile

COLUMNS = ("limit", "mean", "weighted")


def limit(deltas: list[np.ndarray]) -> Callable[[], object]:
    """Return the sum as NumPy's own."""
    total = np.zeros_like(deltas[0])

    def case() -> None:
        for delta in deltas:
            np.add(total, delta, out=total)

    return case


def fold(deltas: list[np.ndarray], coefficients: list[float]) -> Callable[[], object]:
    """Return the sum as a server makes it."""
    pile = Pile(deltas[0].size, deltas[0].dtype)

    def case() -> None:
        for delta, coefficient in zip(deltas, coefficients, strict=True):
            assert math.isfinite(np.dot(delta, delta))
            pile.add(delta, coefficient)
        pile.take()

    return case


def main() -> None:
    """Print a table, and JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deltas", type=int, default=1000, help="clients of the round (1000)")
    parser.add_argument("--size", type=int, default=200_000, help="float32 parameters (200,000)")
    parser.add_argument("--repeats", type=int, default=11, help="timed rounds (11)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    options = parser.parse_args()

    host = machine()
    print(", ".join(f"{key} {value}" for key, value in host.items()))
    print(f"{options.deltas:,} deltas of {options.size:,} float32, medians of {options.repeats} in ms\n")
    rng = np.random.default_rng(0)
    deltas = [rng.standard_normal(options.size, np.float32) for _ in range(options.deltas)]
    examples = rng.integers(1, 600, options.deltas).astype(float).tolist()
    cases = {"limit": limit(deltas), "mean": fold(deltas, [1.0] * len(deltas)), "weighted": fold(deltas, examples)}
    seconds = interleave(cases, options.repeats)
    print("".join(f"{name:>10}" for name in COLUMNS) + f"{'mean/limit':>14}{'weighted/limit':>16}")
    ratios = {name: seconds[name] / seconds["limit"] for name in ("mean", "weighted")}
    row = "".join(f"{seconds[name] * 1e3:10.1f}" for name in COLUMNS)
    print(f"{row}{ratios['mean']:14.2f}{ratios['weighted']:16.2f}")
    if options.json:
        asked = {key: getattr(options, key) for key in ("deltas", "size", "repeats")}
        figures = {"machine": host, **asked, "seconds": seconds, "ratios": ratios}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
