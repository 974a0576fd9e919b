"""The 8 x 8 handwritten digits that come with scikit-learn: small, and there without a download."""

from __future__ import annotations

import numpy as np

from ps.data.dataset import Dataset
from ps.errors import DataError


def digits(seed: int = 0, test_fraction: float = 0.2) -> tuple[Dataset, Dataset]:
    """Return (train, test) of 1797 images: x (n, 64) float32 in [0, 1], y (n,) int64 in 0..9.

    The same seed gives the same division. DataError when scikit-learn is missing, or when ``test_fraction``
    leaves one of the two empty.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("digits come with scikit-learn. Try: pip install paramserver[examples]") from error
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    y = y.astype(np.int64)
    held_out = round(len(x) * test_fraction)
    if not 0 < held_out < len(x):
        raise DataError(f"test_fraction {test_fraction} of {len(x)} examples: expected between 0 and 1")
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = order[held_out:], order[:held_out]
    return Dataset(x[train], y[train]), Dataset(x[test], y[test])
