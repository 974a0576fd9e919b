"""The models on a CUDA device against the same models on the host."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.data import Dataset, batches
from ps.models import cnn, mlp, softmax

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(xp.cupy() is None, reason="no CUDA device, or no cupy"),
]
each_model = pytest.mark.parametrize(
    ("model", "params"),
    [(softmax, softmax.init([784, 10])), (mlp, mlp.init([784, 200, 200, 10])), (cnn, cnn.init())],
    ids=["softmax", "mlp", "cnn"],
)


def batch(n: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((n, 784)).astype(dtype), rng.integers(0, 10, n)


def moved(device: xp.Device, params: dict[str, np.ndarray], dtype: Any) -> dict[str, Any]:
    return {name: device.array(value.astype(dtype)) for name, value in params.items()}


@each_model
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 2e-3)])
def test_loss_and_gradients_are_the_hosts(
    model: ModuleType, params: dict[str, np.ndarray], dtype: Any, tolerance: float
) -> None:
    device = xp.device("cuda")
    x, y = batch(32, dtype)
    loss, grads = model.loss_and_grad(moved(xp.CPU, params, dtype), x, y)
    device_loss, device_grads = model.loss_and_grad(moved(device, params, dtype), device.array(x), device.array(y))
    assert type(device_loss) is float
    assert device_loss == pytest.approx(loss, rel=tolerance)
    assert list(device_grads) == list(grads)
    for name, grad in grads.items():
        there = device_grads[name]
        assert not xp.is_host(there) and (there.dtype, there.shape) == (grad.dtype, grad.shape)
        np.testing.assert_allclose(xp.to_host(there), grad, rtol=0, atol=tolerance * np.abs(grad).max())


@each_model
def test_accuracy_takes_data_from_either_side(model: ModuleType, params: dict[str, np.ndarray]) -> None:
    device = xp.device("cuda")
    x, y = batch(64, np.float32)
    there = moved(device, params, np.float32)
    expected = model.accuracy(params, (x, y))
    assert model.accuracy(there, Dataset(x, y), batch_size=20) == pytest.approx(expected, abs=1 / 64)
    assert model.accuracy(there, Dataset(device.array(x), device.array(y))) == pytest.approx(expected, abs=1 / 64)


def test_batches_of_device_arrays_stay_on_the_device() -> None:
    device = xp.device("cuda")
    x, y = batch(30, np.float32)
    for (hx, hy), (dx, dy) in zip(batches((x, y), 7), batches((device.array(x), device.array(y)), 7), strict=True):
        assert not xp.is_host(dx) and not xp.is_host(dy)
        np.testing.assert_array_equal(xp.to_host(dx), hx)
        np.testing.assert_array_equal(xp.to_host(dy), hy)


def test_descent_on_the_device_learns() -> None:
    device = xp.device("cuda")
    x, y = (device.array(part) for part in batch(64, np.float32))
    params = moved(device, mlp.init([784, 64, 10]), np.float32)
    for _ in range(200):
        _, grads = mlp.loss_and_grad(params, x, y)
        for name, grad in grads.items():
            params[name] -= 0.1 * grad
    assert mlp.accuracy(params, (x, y)) == 1.0
