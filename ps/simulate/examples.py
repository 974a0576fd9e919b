"""The examples of a simulation: a data set by name, one that a seed makes up, or what a user's model brings along."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ps.data import digits, mnist
from ps.errors import ConfigError
from ps.memory import check_fits
from ps.simulate.model import is_file, model_named
from ps.xp import HostArray

DATASETS = ("digits", "mnist", "synthetic")
NOISE = 0.2
"""Deviation of the synthetic scores' noise, beside scores of deviation 1: the best linear model is 84 % right."""


def load(
    name: str, folder: str | None = None, seed: int = 0, size: int = 20_000, features: int = 60
) -> dict[str, HostArray]:
    """Return x_train, y_train, x_test and y_test. ``size`` and ``features`` are synthetic's; ``folder`` is MNIST's.

    A name such as ``model.py`` stands for what that file's ``data()`` returns.

    ConfigError for an unknown name; DataError when the data cannot be had.
    """
    if is_file(name):
        return _of(*model_named(name).data())
    if name not in DATASETS:
        raise ConfigError(f"dataset {name!r}: there are {', '.join(DATASETS)}")
    if name == "synthetic":
        return synthetic(size, features, seed=seed)
    return _of(*(mnist(folder) if name == "mnist" else digits()))


def _of(train: Iterable[HostArray], test: Iterable[HostArray]) -> dict[str, HostArray]:
    (x_train, y_train), (x_test, y_test) = train, test
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def synthetic(n: int, features: int = 60, classes: int = 10, seed: int = 0) -> dict[str, HostArray]:
    """Make ``n`` examples up, a sixth of them for testing: normal features, the class with the largest noisy score."""
    check_fits(8 * n * (features + 2 * classes), f"{n:,} examples of {features:,} features (--examples, --features)")
    rng = np.random.default_rng((seed, n))
    x = rng.standard_normal((n, features), np.float32)
    scores = x @ rng.standard_normal((features, classes))
    scores *= 1 / scores.std()
    y = (scores + NOISE * rng.standard_normal(scores.shape)).argmax(axis=1)
    cut = max(1, n - n // 6)
    return {"x_train": x[:cut], "y_train": y[:cut], "x_test": x[cut:], "y_test": y[cut:]}
