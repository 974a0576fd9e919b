"""All models: exact gradients, float32 throughout, the same numbers on every device, and they learn."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.data import Dataset
from ps.errors import UsageError
from ps.models import cnn, mlp, softmax
from ps.testing import StrictArray

SMALL: list[tuple[ModuleType, Callable[[], dict[str, np.ndarray]]]] = [
    (softmax, lambda: softmax.init([64, 5], seed=3)),
    (mlp, lambda: mlp.init([64, 12, 7, 5], seed=3)),
    (cnn, lambda: cnn.init(seed=3, classes=5, image=(8, 8))),
]
IDS = ["softmax", "mlp", "cnn"]
each_model = pytest.mark.parametrize(("model", "init"), SMALL, ids=IDS)


def batch(n: int, features: int = 64, classes: int = 5, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((n, features), np.float32), rng.integers(0, classes, n)


@each_model
def test_gradient_is_the_finite_difference(model: ModuleType, init: Callable[[], Any]) -> None:
    params = {name: value.astype(np.float64) for name, value in init().items()}
    rng = np.random.default_rng(0)
    for value in params.values():
        value += 0.01 * rng.standard_normal(value.shape)
    x, y = batch(4)
    x = x.astype(np.float64)
    _, grads = model.loss_and_grad(params, x, y)
    step = 1e-6
    for name, value in params.items():
        assert grads[name].dtype == np.float64
        flat, grad = value.reshape(-1), grads[name].reshape(-1)
        for i in rng.choice(flat.size, min(flat.size, 12), replace=False):
            kept = flat[i]
            flat[i] = kept + step
            above = model.loss_and_grad(params, x, y)[0]
            flat[i] = kept - step
            below = model.loss_and_grad(params, x, y)[0]
            flat[i] = kept
            assert grad[i] == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-8), (name, i)


@each_model
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_float32_parameters_give_float32_gradients(model: ModuleType, init: Callable[[], Any], dtype: Any) -> None:
    params = init()
    x, y = batch(3)
    loss, grads = model.loss_and_grad(params, (x * 4).astype(dtype), y)
    assert type(loss) is float
    assert list(grads) == list(params)
    for name, grad in grads.items():
        assert (grad.dtype, grad.shape) == (np.float32, params[name].shape)
    assert model.logits(params, x).dtype == np.float32


@each_model
def test_parameters_may_be_read_only_views_of_one_vector(model: ModuleType, init: Callable[[], Any]) -> None:
    params = init()
    flat = np.concatenate([value.reshape(-1) for value in params.values()])
    flat.flags.writeable = False
    views, at = {}, 0
    for name, value in params.items():
        views[name] = flat[at : at + value.size].reshape(value.shape)
        at += value.size
    x, y = batch(3)
    loss, grads = model.loss_and_grad(params, x, y)
    again, same = model.loss_and_grad(views, x, y)
    assert loss == again
    for name in grads:
        np.testing.assert_array_equal(grads[name], same[name])


@each_model
def test_loss_of_a_batch_is_the_mean_over_its_examples(model: ModuleType, init: Callable[[], Any]) -> None:
    params, (x, y) = init(), batch(6)
    loss, grads = model.loss_and_grad(params, x, y)
    parts = [model.loss_and_grad(params, x[i : i + 1], y[i : i + 1]) for i in range(6)]
    assert loss == pytest.approx(np.mean([part[0] for part in parts]), rel=1e-5)
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, np.mean([part[1][name] for part in parts], axis=0), atol=1e-6)


@each_model
def test_descent_lowers_the_loss_until_every_example_is_right(model: ModuleType, init: Callable[[], Any]) -> None:
    params, (x, y) = init(), batch(8)
    first = model.loss_and_grad(params, x, y)[0]
    loss = first
    for _ in range(300):
        loss, grads = model.loss_and_grad(params, x, y)
        for name, grad in grads.items():
            params[name] -= np.float32(0.1) * grad
    assert loss < first / 2
    assert model.accuracy(params, (x, y)) == 1.0
    np.testing.assert_array_equal(model.predict(params, x), y)


@each_model
def test_the_seed_decides_the_first_parameters(model: ModuleType, init: Callable[[], Any]) -> None:
    one, two = init(), init()
    assert all(np.array_equal(one[name], two[name]) and one[name].dtype == np.float32 for name in one)
    name = next(iter(one))
    other = cnn.init(seed=4, classes=5, image=(8, 8)) if model is cnn else model.init([64, 5], seed=4)
    assert not np.array_equal(other[name].reshape(-1)[:5], one[name].reshape(-1)[:5])


@each_model
def test_a_device_computes_what_the_host_computes(
    model: ModuleType, init: Callable[[], Any], strict_device: xp.Device
) -> None:
    params, (x, y) = init(), batch(6)
    there = {name: strict_device.array(value) for name, value in params.items()}
    loss, grads = model.loss_and_grad(params, x, y)
    device_loss, device_grads = model.loss_and_grad(there, strict_device.array(x), strict_device.array(y))
    assert type(device_loss) is float and device_loss == loss
    for name, grad in grads.items():
        assert isinstance(device_grads[name], StrictArray)
        np.testing.assert_array_equal(xp.to_host(device_grads[name]), grad)
    assert isinstance(model.predict(there, strict_device.array(x)), StrictArray)
    assert model.accuracy(there, (x, y), batch_size=4) == model.accuracy(params, (x, y))
    on_device = Dataset(strict_device.array(x), strict_device.array(y))
    assert model.accuracy(there, on_device, batch_size=4) == model.accuracy(params, (x, y))


@each_model
def test_host_data_for_device_parameters_is_refused(
    model: ModuleType, init: Callable[[], Any], strict_device: xp.Device
) -> None:
    params, (x, y) = init(), batch(2)
    there = {name: strict_device.array(value) for name, value in params.items()}
    with pytest.raises(UsageError, match="numpy and strict"):
        model.loss_and_grad(there, x, strict_device.array(y))
    with pytest.raises(UsageError, match="numpy and strict"):
        model.loss_and_grad(params, strict_device.array(x), y)
    with pytest.raises((UsageError, TypeError)):
        model.loss_and_grad(there, strict_device.array(x), y)


@each_model
def test_labels_of_another_shape_are_refused(model: ModuleType, init: Callable[[], Any]) -> None:
    x, y = batch(4)
    with pytest.raises(UsageError, match="one label for each of 4 examples"):
        model.loss_and_grad(init(), x, y[:, None])
    with pytest.raises(UsageError, match="one label for each of 4 examples"):
        model.loss_and_grad(init(), x, y[:3])


def test_parameter_counts_and_names() -> None:
    def count(params: dict[str, np.ndarray]) -> int:
        return sum(value.size for value in params.values())

    assert count(softmax.init([784, 10])) == 7_850
    assert count(mlp.init([64, 128, 10])) == 64 * 128 + 128 + 128 * 10 + 10
    assert count(mlp.init([784, 200, 200, 10])) == 199_210  # the FedAvg paper's "2NN"
    assert count(cnn.init()) == 1_663_370  # and its CNN
    assert list(mlp.init([2, 3, 4])) == ["layer0/weight", "layer0/bias", "layer1/weight", "layer1/bias"]
    assert list(cnn.init(image=(4, 4)))[:3] == ["conv0/weight", "conv0/bias", "conv1/weight"]


def test_sizes_that_make_no_model_are_refused() -> None:
    with pytest.raises(UsageError, match=r"not \[784\]"):
        mlp.init([784])
    with pytest.raises(UsageError, match="two sizes"):
        softmax.init([784, 20, 10])
    with pytest.raises(UsageError, match="multiples of 4"):
        cnn.init(image=(30, 28))
    with pytest.raises(UsageError, match="no square image"):
        cnn.logits(cnn.init(image=(8, 8)), np.zeros((1, 60), np.float32))


def test_cnn_takes_flat_square_oblong_and_coloured_images() -> None:
    rng = np.random.default_rng(0)
    grey = rng.random((2, 8, 8), np.float32)
    params = cnn.init(image=(8, 8))
    expected = cnn.logits(params, grey)
    np.testing.assert_array_equal(cnn.logits(params, grey.reshape(2, 64)), expected)
    np.testing.assert_array_equal(cnn.logits(params, grey[..., None]), expected)
    assert cnn.logits(cnn.init(image=(8, 12)), rng.random((2, 8, 12), np.float32)).shape == (2, 10)
    assert cnn.logits(cnn.init(image=(8, 8, 3)), rng.random((2, 8, 8, 3), np.float32)).shape == (2, 10)


def test_accuracy_counts_a_known_case() -> None:
    params = {"layer0/weight": np.eye(2, dtype=np.float32), "layer0/bias": np.zeros(2, np.float32)}
    x = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]], np.float32)
    y = np.array([0, 1, 1, 1, 1])
    for size in (1, 2, 100):
        assert softmax.accuracy(params, Dataset(x, y), batch_size=size) == 0.6
    with pytest.raises(UsageError, match="0 examples"):
        softmax.accuracy(params, (x[:0], y[:0]))


def test_loss_is_finite_for_huge_logits() -> None:
    params = {"layer0/weight": np.full((1, 2), 1e4, np.float32), "layer0/bias": np.array([1e4, -1e4], np.float32)}
    loss, grads = softmax.loss_and_grad(params, np.ones((1, 1), np.float32), np.array([1]))
    assert loss == pytest.approx(2e4)
    assert all(np.isfinite(grad).all() for grad in grads.values())
