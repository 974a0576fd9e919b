"""Simulated clients per second: this system's ``psctl simulate`` and Flower's simulation, one after the other.

    python scripts/bench/flower_simulation.py [--clients 100] [--rounds 5] [--turns 3]

Every client takes part in each round: a softmax model of 7,850 parameters, 100 examples, 10 steps of SGD with batches
of ten, FedAvg. Flower runs as its documentation says, on Ray with a process per core, and a round counts from one
aggregation to the next, so its start does not; ours counts whole, for 40 times as many rounds. Flower is left out, with
a line, where it is not installed (pip install "flwr[simulation]").
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import numpy as np
from limits import machine

from compare import positive

FEATURES, CLASSES, STEPS, BATCH, LR = 784, 10, 10, 10, 0.1
RATE = "updates/s "
"""What the process that runs Flower ends with: a line that begins so."""


def ours(clients: int, rounds: int) -> float:
    """Return the updates per second of ``psctl simulate``, its start included."""
    flags = ["--dataset", "synthetic", "--features", str(FEATURES), "--examples", str(120 * clients)]
    flags += ["--clients", str(clients), "--clients-per-round", str(clients), "--rounds", str(rounds)]
    flags += ["--eval-every", "1000000", "--over-select", "1", "--json", "-"]
    command = [sys.executable, "-m", "ps.cli", "simulate", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=900)
    return float(json.loads(done.stdout)["real"]["updates_per_s"])


def flower(clients: int, rounds: int) -> float:
    """Return the updates per second of Flower's simulation, in a process of its own."""
    command = [sys.executable, __file__, "--flower", "--clients", str(clients), "--rounds", str(rounds)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, timeout=900
    )
    return next(float(line[len(RATE) :]) for line in done.stdout.splitlines() if line.startswith(RATE))


def run_flower(clients: int, rounds: int) -> float:
    """Simulate with Flower in this process; return the clients per second of its median round."""
    from flwr.client import ClientApp, NumPyClient
    from flwr.common import ndarrays_to_parameters
    from flwr.server import ServerApp, ServerAppComponents, ServerConfig
    from flwr.server.strategy import FedAvg
    from flwr.simulation import run_simulation

    ends: list[float] = []

    class Softmax(NumPyClient):  # type: ignore[misc]
        """A client with data of its own."""

        def __init__(self, index: int) -> None:
            rng = np.random.default_rng(index)
            self.x = rng.standard_normal((STEPS * BATCH, FEATURES), np.float32)
            self.y = rng.integers(0, CLASSES, STEPS * BATCH)

        def fit(self, parameters: Any, config: Any) -> Any:
            """Take ten steps of SGD."""
            w, b = (each.copy() for each in parameters)
            for first in range(0, STEPS * BATCH, BATCH):
                x, y = self.x[first : first + BATCH], self.y[first : first + BATCH]
                d = x @ w + b
                d = np.exp(d - d.max(axis=1, keepdims=True))
                d /= d.sum(axis=1, keepdims=True)
                d[np.arange(BATCH), y] -= 1
                d *= LR / BATCH
                w -= x.T @ d
                b -= d.sum(axis=0)
            return [w, b], STEPS * BATCH, {}

    class Timed(FedAvg):  # type: ignore[misc]
        """FedAvg that notes when each round's updates were combined, and that all came."""

        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            if failures or len(results) < clients:
                raise SystemExit(f"{len(results)} of {clients} clients came through: {failures[:1]}")
            combined = super().aggregate_fit(server_round, results, failures)
            ends.append(time.monotonic())
            return combined

    def server(context: Any) -> Any:
        first = ndarrays_to_parameters([np.zeros((FEATURES, CLASSES), np.float32), np.zeros(CLASSES, np.float32)])
        everyone = {"fraction_fit": 1.0, "min_fit_clients": clients, "min_available_clients": clients}
        strategy = Timed(**everyone, fraction_evaluate=0.0, initial_parameters=first)
        return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=rounds))

    def client(context: Any) -> Any:
        return Softmax(int(context.node_config["partition-id"])).to_client()

    each = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(ServerApp(server_fn=server), ClientApp(client_fn=client), clients, backend_config=each)
    return clients / statistics.median(after - before for before, after in itertools.pairwise(ends))


def main() -> int:
    """Print both rates, medians of turns, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=positive, default=100)
    parser.add_argument("--rounds", type=positive, default=5, help="rounds of each turn, at least 2 (5)")
    parser.add_argument("--turns", type=positive, default=3)
    parser.add_argument("--flower", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    rounds = max(2, options.rounds)
    if options.flower:
        print(f"{RATE}{run_flower(options.clients, rounds)!r}")
        return 0
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    try:
        from flwr import __version__ as version
    except ImportError:
        version = ""
        print('Flower is left out: it is not installed; pip install "flwr[simulation]"')
    rates: dict[str, list[float]] = {"ours": [], "Flower": []}
    for _ in range(options.turns):
        rates["ours"].append(ours(options.clients, 40 * rounds))
        if version:
            rates["Flower"].append(flower(options.clients, rounds))
    own = statistics.median(rates["ours"])
    print(f"psctl simulate       {own:10.0f} updates/s ({min(rates['ours']):.0f} - {max(rates['ours']):.0f})")
    if version:
        theirs = statistics.median(rates["Flower"])
        low, high = min(rates["Flower"]), max(rates["Flower"])
        print(f"Flower {version:13} {theirs:10.0f} updates/s ({low:.0f} - {high:.0f})")
        print(f"ours are {own / theirs:.0f} times as many")
    return 0


if __name__ == "__main__":
    sys.exit(main())
