"""First values of weights and biases, always drawn on the host so that every device starts from the same bits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def he(rng: np.random.Generator, fan_in: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw weights for a layer followed by a ReLU: normal, variance ``2 / fan_in``, float32.

    He et al., Delving Deep into Rectifiers, 2015 (arXiv:1502.01852).
    """
    return rng.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / fan_in))


def glorot(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float32]:
    """Draw the ``(fan_in, fan_out)`` weights of a linear layer: uniform, variance ``2 / (fan_in + fan_out)``.

    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010.
    """
    limit = math.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-limit, limit, (fan_in, fan_out)).astype(np.float32)


def zeros(n: int) -> NDArray[np.float32]:
    """Return the ``n`` biases of a fresh layer."""
    return np.zeros(n, np.float32)
