"""On a device, encoding stays there, and gives the host's frame."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ps import xp
from ps.compress import CODECS, Uplink
from ps.errors import UsageError
from support.vectors import ALL, KEY, REMEMBERING


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 1500, 140_001])
@pytest.mark.parametrize("text", [*ALL, *REMEMBERING])
def test_a_device_writes_the_hosts_frames_and_memory(
    text: str, size: int, dtype: str, strict_device: xp.Device
) -> None:
    up = Uplink(CODECS.parse(text))
    rng = np.random.default_rng(0)
    host = up.init(np.zeros(size, dtype))
    device = up.init(strict_device.array(np.zeros(size, dtype)))
    for clock in range(3):
        key = dataclasses.replace(KEY, clock=clock)
        gradient = rng.standard_normal(size).astype(dtype)
        expected = up.encode(gradient, host, key)
        frame = up.encode(strict_device.array(gradient), device, key)
        assert xp.backend_of(frame) is strict_device.backend
        assert xp.to_host(frame).tobytes() == expected.tobytes()
        for name, array in device.items():
            assert xp.to_host(array).tobytes() == host[name].tobytes(), name


@pytest.mark.parametrize("text", ALL)
def test_a_frame_can_be_added_where_the_weights_are(text: str, strict_device: xp.Device) -> None:
    up = Uplink(CODECS.parse(text))
    values = np.random.default_rng(0).standard_normal(70_001).astype(np.float32)
    frame = up.codec.encode(values, KEY, up.codec.init(values))
    weights = np.linspace(-1, 1, values.size, dtype=np.float32)
    on_device = strict_device.array(weights)
    up.codec.open(frame, values.size, "float32", KEY).add_to(weights)
    up.codec.open(strict_device.array(frame), values.size, "float32", KEY, trusted=True).add_to(on_device)
    assert xp.to_host(on_device).tobytes() == weights.tobytes()
    part = strict_device.array(np.empty(2000, np.float32))
    up.codec.open(strict_device.array(frame), values.size, "float32", KEY, trusted=True).read(65_000, 67_000, part)
    expected = np.empty(2000, np.float32)
    up.codec.open(frame, values.size, "float32", KEY).read(65_000, 67_000, expected)
    assert xp.to_host(part).tobytes() == expected.tobytes()


def test_a_buffer_on_another_side_is_refused(strict_device: xp.Device) -> None:
    up = Uplink(CODECS.parse("int8"))
    gradient = strict_device.array(np.ones(10, np.float32))
    with pytest.raises(UsageError, match="different sides"):
        up.encode(gradient, up.init(gradient), KEY, np.empty(100, np.uint8))
