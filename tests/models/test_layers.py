"""The convolution and the pooling against their plain definitions."""

from __future__ import annotations

import numpy as np
import pytest

from ps.models import conv, loss, pool


@pytest.mark.parametrize("channels", [1, 3, 8, 9])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_convolution_is_its_definition(channels: int, k: int) -> None:
    rng = np.random.default_rng(k)
    x = rng.standard_normal((6, 2, 4, channels))
    weight, bias = rng.standard_normal((k, k, channels, 3)), rng.standard_normal(3)
    out = conv.forward(np, conv.unroll(np, x, k), weight, bias, (6, 2, 4))
    p = k // 2
    padded = np.pad(x, ((p, p), (0, 0), (p, p), (0, 0)))
    expected = np.empty((6, 2, 4, 3))
    for row in range(6):
        for column in range(4):
            window = padded[row : row + k, :, column : column + k]
            expected[row, :, column] = np.einsum("inju,ijuo->no", window, weight) + bias
    np.testing.assert_allclose(out, expected)


def test_convolution_gradients_are_the_adjoints() -> None:
    rng = np.random.default_rng(0)
    x, d = rng.standard_normal((6, 2, 4, 9)), rng.standard_normal((6, 2, 4, 3))
    weight = rng.standard_normal((5, 5, 9, 3))
    unrolled = conv.unroll(np, x, 5)
    product = np.vdot(conv.forward(np, unrolled, weight, np.zeros(3), (6, 2, 4)), d)
    grad, bias = conv.parameter_grads(unrolled, weight, d)
    assert np.vdot(grad, weight) == pytest.approx(product)
    assert np.vdot(conv.input_grad(np, weight, d), x) == pytest.approx(product)
    np.testing.assert_allclose(bias, d.sum(axis=(0, 1, 2)))


def test_pooling_sends_the_gradient_to_the_first_of_equal_maxima() -> None:
    x = np.array([[1, 2, 5, 5], [2, 0, 5, 5]], np.float32).reshape(2, 1, 4, 1)
    out = pool.forward(np, x)
    assert out.ravel().tolist() == [2, 5]
    grad = pool.input_grad(np, x, out, np.array([[[[10], [20]]]], np.float32).reshape(1, 1, 2, 1))
    assert grad.dtype == np.float32
    assert grad.reshape(2, 4).tolist() == [[0, 10, 20, 0], [0, 0, 0, 0]]


def test_cross_entropy_of_even_scores_is_the_logarithm_of_the_classes() -> None:
    value, grad = loss.cross_entropy(np, np.zeros((2, 4), np.float32), np.array([0, 3]))
    assert value == pytest.approx(np.log(4))
    assert grad.tolist() == [[-0.375, 0.125, 0.125, 0.125], [0.125, 0.125, 0.125, -0.375]]
