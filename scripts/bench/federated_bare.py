"""Print how many updates a second NumPy's arithmetic alone allows: what a simulated softmax client computes, in turns.

OPENBLAS_NUM_THREADS=1 python scripts/bench/federated_bare.py --seconds 3

As ps.simulate does it, 16 clients at a time, each with the numbers that it has alone: 784 inputs, ten classes, ten
steps on ten examples of its own each. There are no clients, rounds, servers, messages or random numbers.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

EXAMPLES, FEATURES, CLASSES, CLIENTS, GROUP, STEPS, BATCH = 72_000, 784, 10, 600, 16, 10, 10


def train(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the deltas of a group: ``rows`` are (clients, steps, batch) examples."""
    clients, split = len(rows), FEATURES * CLASSES
    flat, gradient = (np.zeros((clients, split + CLASSES), np.float32) for _ in range(2))
    weight, bias = flat[:, :split].reshape(clients, FEATURES, CLASSES), flat[:, None, split:]
    of_weight, of_bias = gradient[:, :split].reshape(weight.shape), gradient[:, None, split:]
    batch = np.empty((clients, BATCH, FEATURES), np.float32)
    for step in range(STEPS):
        np.take(x, rows[:, step], axis=0, out=batch, mode="clip")
        scores = np.matmul(batch, weight)
        scores += bias
        scores -= scores.max(axis=2, keepdims=True)
        every = scores.reshape(-1)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=2, keepdims=True)
        every[np.arange(0, every.size, CLASSES) + y[rows[:, step]].reshape(-1)] -= 1
        scores /= np.float32(BATCH)
        np.matmul(batch.transpose(0, 2, 1), scores, out=of_weight)
        np.sum(scores, axis=1, keepdims=True, out=of_bias)
        gradient *= np.float32(0.1)
        flat -= gradient
    return flat


def main() -> None:
    """Print updates per second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long (3)")
    seconds = parser.parse_args().seconds
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((EXAMPLES, FEATURES), np.float32), rng.integers(0, CLASSES, EXAMPLES)
    rows = rng.permutation(EXAMPLES).reshape(CLIENTS, -1)[:, : STEPS * BATCH].reshape(CLIENTS, STEPS, BATCH)
    count, began = 0, time.monotonic()
    while time.monotonic() < began + seconds:
        for first in range(0, CLIENTS, GROUP):
            count += len(train(x, y, rows[first : first + GROUP]))
    print(count / (time.monotonic() - began))


if __name__ == "__main__":
    main()
