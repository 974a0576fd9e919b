"""Optimizers on a real CUDA device give what they give on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.optim import OPTIMIZERS, apply, square_sum

cupy = xp.cupy()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(cupy is None, reason="no cupy or no CUDA device")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_steps_on_the_device_are_those_on_the_host(name: str, dtype: str) -> None:
    optimizer = OPTIMIZERS.parse(name if name == "ftrl" else f"{name}:weight_decay=0.1").build()
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(100_003).astype(dtype)
    on_device = cupy.asarray(weights)  # type: ignore[union-attr]
    state, device_state = optimizer.init(weights), optimizer.init(on_device)
    for t in range(1, 11):
        gradient = rng.standard_normal(weights.size).astype(dtype)
        options: dict[str, Any] = {"scale": 0.5, "clip_value": 0.4} if t % 2 else {}
        device_gradient = cupy.asarray(gradient)  # type: ignore[union-attr]
        apply(optimizer, weights, gradient, state, lr=0.01, t=t, **options)
        apply(optimizer, on_device, device_gradient, device_state, lr=0.01, t=t, **options)
        np.testing.assert_array_equal(cupy.asnumpy(device_gradient), gradient)  # type: ignore[union-attr]
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(xp.to_host(on_device), weights, rtol=tolerance, atol=tolerance)


def test_square_sum_on_the_device_is_that_on_the_host() -> None:
    gradient = np.random.default_rng(0).standard_normal(1_000_003).astype(np.float32)
    on_device = cupy.asarray(gradient)  # type: ignore[union-attr]
    expected = square_sum(gradient)
    assert square_sum(on_device) == pytest.approx(expected, rel=1e-12)
    assert square_sum(on_device) == square_sum(on_device)
    blocks = square_sum(lambda lo, hi, out: on_device[lo:hi], gradient.size, np.float32, cupy)
    assert blocks == pytest.approx(expected, rel=1e-12)
