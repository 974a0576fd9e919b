"""The limit of gradients: what is within it never overflows, wherever it is squared or added up."""

from __future__ import annotations

import numpy as np
import pytest

from ps.optim import OPTIMIZERS, WeightedSum, apply, clip_scale, square_sum
from ps.optim.limit import all_within, elements_within, limit_of
from ps.xp import Device

DTYPES = ["float32", "float64"]


VALUES = [None, np.nan, np.inf, -np.inf, "next", -1e300]


def vectors(dtype: str, value: float | str | None) -> list[np.ndarray]:
    """Return two vectors, the second with the largest there may be and, behind it, the value."""
    kind = np.dtype(dtype).type
    limit = kind(limit_of(np.dtype(dtype)))
    last = {None: kind(0), "next": np.nextafter(limit, kind(np.inf))}.get(value, value)
    with np.errstate(over="ignore"):
        return [np.ones(3, dtype), np.array([0, limit, -limit, 1, last], dtype)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", VALUES)
def test_exactly_what_is_within_the_limit_is_usable(dtype: str, value: float | str | None) -> None:
    made = vectors(dtype, value)
    assert all_within(made) == (value is None)
    fine = elements_within(made[1])
    assert bool(fine.all()) == (value is None) and (value is None or int(fine.argmin()) == 4)
    assert all_within([np.empty(0, dtype)]) and all_within([])


@pytest.mark.parametrize("value", VALUES)
def test_a_device_finds_the_same(strict_device: Device, value: float | str | None) -> None:
    made = [strict_device.array(vector) for vector in vectors("float32", value)]
    assert all_within(made) == (value is None)
    assert value is None or int(elements_within(made[1]).argmin()) == 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_is_frozen_by_the_largest_gradient(name: str, dtype: str) -> None:
    """The worst there may be, a thousand times; then ordinary ones still find finite state."""
    optimizer = OPTIMIZERS.parse(f"{name}:lr=0.01").build()
    weights = np.ones(4, dtype)
    state = optimizer.init(weights)
    limit = limit_of(weights.dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for t in range(1, 1001):
            apply(optimizer, weights, np.array([limit, -limit, 1, 0], dtype), state, lr=0.01, t=t)
    for array in (weights, *state.values()):
        assert np.isfinite(array).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["mean", "weighted"])
def test_the_mean_of_the_largest_gradients_of_many_workers_is_the_largest_gradient(name: str, dtype: str) -> None:
    parts = [np.full(5, limit_of(np.dtype(dtype)), dtype)] * 1000
    out = np.empty_like(parts[0])
    added = WeightedSum(parts, [1e308 if name == "weighted" else 1.0] * 1000)
    with np.errstate(over="raise"):
        mean = added(0, out.size, out) * added.factor
    np.testing.assert_allclose(mean, parts[0], rtol=1e-5)


def test_the_norm_of_the_largest_float64_gradient_clips_it() -> None:
    limit = limit_of(np.dtype(np.float64))
    scale = clip_scale(square_sum(np.full(1 << 20, limit)), 1.0)
    assert scale == pytest.approx(1 / (1024 * limit))
