"""The stand-in device: it computes, and it refuses what hides a trip over the bus."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.errors import UsageError
from ps.testing import StrictArray
from ps.testing.strict_device import strict


@pytest.fixture
def pair(strict_device: xp.Device) -> tuple[np.ndarray, StrictArray]:
    host = np.arange(6, dtype=np.float32).reshape(2, 3)
    return host, strict_device.array(host)


def test_arithmetic_stays_on_the_device(pair: Any) -> None:
    host, device = pair
    result = 1 / (strict.exp(device[0] @ device.T - 2.0) + 1) * np.float32(3)
    assert isinstance(result, StrictArray) and result.dtype == np.float32
    np.testing.assert_array_equal(xp.to_host(result), 1 / (np.exp(host[0] @ host.T - 2.0) + 1) * np.float32(3))


def test_in_place_operations_write_through_views(pair: Any) -> None:
    _, device = pair
    device.reshape(-1)[4:] *= 10
    assert xp.to_host(device).tolist() == [[0, 1, 2], [3, 40, 50]]


def test_a_copy_from_the_host_is_independent_of_it(pair: Any) -> None:
    host, device = pair
    host[:] = 7
    assert float(device.max()) == 5


@pytest.mark.parametrize(
    "mix",
    [
        lambda host, device: np.asarray(device),
        lambda host, device: np.array([device]),
        lambda host, device: np.exp(device),
        lambda host, device: np.sum(device),
        lambda host, device: np.concatenate([device]),
        lambda host, device: np.copyto(host, device),
        lambda host, device: host + device,
        lambda host, device: device + host,
        lambda host, device: device @ host.T,
        lambda host, device: host == device,
        lambda host, device: device[host > 2],
        lambda host, device: device.__setitem__(slice(None), host),
        lambda host, device: host.__setitem__(slice(None), device),
        lambda host, device: operator_iadd(host, device),
        lambda host, device: operator_iadd(device, host),
        lambda host, device: strict.maximum(device, host),
        lambda host, device: strict.concatenate([device, host]),
        lambda host, device: device.dot(host.T),
    ],
)
def test_mixing_host_and_device_raises(pair: Any, mix: Any) -> None:
    with pytest.raises(TypeError):
        mix(*pair)


def operator_iadd(a: Any, b: Any) -> None:
    a += b


def test_it_is_forgotten_after_the_test() -> None:
    with pytest.raises(UsageError, match="not StrictArray"):
        xp.backend_of(StrictArray(np.zeros(1)))
