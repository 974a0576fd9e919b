"""Measure what a privacy budget costs in accuracy: MNIST over a population of 10,000 clients with six digits each.

    python scripts/bench/private_mnist.py --data DIR [--rounds 300] [--eps 8 4 2 1 inf] [--constant]

Poisson sampling of 500 clients a round on average, delta 1e-5, one step of each on all it has, clipped, and momentum on
the servers, whose rate falls to 0 over the rounds (--constant: it does not), from one that is smaller where noise is
larger: these rates were chosen once, with another program. One run after the other, some ten minutes each on a core of
its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

RATES = {"inf": 6, "8": 5, "4": 4, "2": 3, "1": 2}
"""The servers' learning rate by eps."""
JOB = (
    *("--clients", 10_000, "--clients-per-round", 500, "--partition", "iid", "--dataset", "mnist"),
    *("--model", "mlp", "--hidden", 64, "--batch-size", 0, "--local-steps", 1, "--optimizer", "sgd:lr=4"),
    *("--processes", 1, "--eval-every", 50),
)


def accuracies(data: str, eps: str, rounds: int, schedule: str) -> dict[int, float]:
    """Return the test accuracy by round."""
    budget = "noise=0.01" if eps == "inf" else f"eps={eps}"  # clipped all the same
    rate = RATES[eps]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        dp = ("--dp", f"poisson:{budget},delta=1e-5,clip=0.2")
        server = ("--server-optimizer", f"momentum:lr={rate},momentum=0.9", "--server-schedule", schedule)
        about = (*server, "--rounds", rounds, "--json", report)
        argv = [sys.executable, "-m", "ps.cli", "simulate", "--data", data, *JOB, *dp, *about]
        subprocess.run([str(each) for each in argv], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(report.read_text())
    return {row["round"]: row["accuracy"] for row in found["evaluations"]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--eps", nargs="*", default=list(RATES), choices=list(RATES))
    parser.add_argument("--constant", action="store_true", help="leave the servers' rate as it is")
    options = parser.parse_args()
    falls = "constant" if options.constant else f"linear:steps={options.rounds}"
    print(f"{platform.platform()}, Python {platform.python_version()}, NumPy {np.__version__}")
    for eps in options.eps:
        found = accuracies(options.data, eps, options.rounds, falls)
        last = max(found)
        print(
            f"eps {eps:>3}: {found[last]:.4f} after {last} rounds; before {dict(sorted(found.items())[:-1])}",
            flush=True,
        )
