"""What tests of workers share: tensors, and a bound."""

from __future__ import annotations

import numpy as np

__all__ = ["BOUND", "model"]

BOUND = 40.0
"""Seconds after which anything in these tests has hung."""


def model(*shapes: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> dict[str, np.ndarray]:
    """Return random tensors named a, b, c, …"""
    random = np.random.default_rng(seed)
    return {chr(97 + i): random.standard_normal(shape).astype(dtype) for i, shape in enumerate(shapes)}
