"""The examples of a simulation: a data set by name, or one that a seed makes up."""

from __future__ import annotations

import numpy as np

from ps.data import digits, mnist
from ps.errors import ConfigError
from ps.xp import HostArray

DATASETS = ("digits", "mnist", "synthetic")
NOISE = 0.2
"""Deviation of the synthetic scores' noise, beside scores of deviation 1: the best linear model is 84 % right."""


def load(name: str, folder: str | None = None, seed: int = 0, size: int = 20_000) -> dict[str, HostArray]:
    """Return x_train, y_train, x_test and y_test. ``size`` counts synthetic examples; ``folder`` is MNIST's.

    ConfigError for an unknown name; DataError when the data cannot be had.
    """
    if name not in DATASETS:
        raise ConfigError(f"dataset {name!r}: there are {', '.join(DATASETS)}")
    if name == "synthetic":
        return synthetic(size, seed=seed)
    train, test = mnist(folder) if name == "mnist" else digits()
    return {"x_train": train.x, "y_train": train.y, "x_test": test.x, "y_test": test.y}


def synthetic(n: int, features: int = 60, classes: int = 10, seed: int = 0) -> dict[str, HostArray]:
    """Make ``n`` examples up, a sixth of them for testing: normal features, the class with the largest noisy score."""
    rng = np.random.default_rng((seed, n))
    x = rng.standard_normal((n, features), np.float32)
    scores = x @ rng.standard_normal((features, classes))
    scores *= 1 / scores.std()
    y = (scores + NOISE * rng.standard_normal(scores.shape)).argmax(axis=1)
    cut = max(1, n - n // 6)
    return {"x_train": x[:cut], "y_train": y[:cut], "x_test": x[cut:], "y_test": y[cut:]}
