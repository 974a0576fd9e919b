"""The 8 x 8 handwritten digits that come with scikit-learn: small, and there without a download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ps.data.dataset import Dataset
from ps.errors import DataError

FILE = "datasets/data/digits.csv.gz"
"""Where scikit-learn's package has them: 64 pixels and the digit in each line."""


def digits(seed: int = 0, test_fraction: float = 0.2) -> tuple[Dataset, Dataset]:
    """Return (train, test) of 1797 images: x (n, 64) float32 in [0, 1], y (n,) int64 in 0..9.

    The same seed gives the same division. DataError when scikit-learn is missing, or when ``test_fraction``
    leaves one of the two empty.
    """
    table = _read()
    x = (table[:, :-1] / 16).astype(np.float32)
    y = table[:, -1].astype(np.int64)
    held_out = round(len(x) * test_fraction)
    if not 0 < held_out < len(x):
        raise DataError(f"test_fraction {test_fraction} of {len(x)} examples: expected between 0 and 1")
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = order[held_out:], order[:held_out]
    return Dataset(x[train], y[train]), Dataset(x[test], y[test])


def _read() -> NDArray[np.float64]:
    """Return the images and, as their last column, the digits: (1797, 65).

    They are read from the package's file where it has one: to load scikit-learn takes a worker two seconds.
    """
    found = importlib.util.find_spec("sklearn")
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder) / FILE
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    return _load()


def _load() -> NDArray[np.float64]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("digits come with scikit-learn. Try: pip install scikit-learn") from error
    x, y = load_digits(return_X_y=True)
    table: NDArray[np.float64] = np.column_stack((x, y))
    return table
