"""Array libraries behind one door: who owns an array, what crosses the bus, which device is taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.errors import ConfigError, UsageError
from ps.testing import STRICT, StrictArray
from ps.testing.strict_device import strict


class Foreign:
    """An array of some other library, on a DLPack device of a given type."""

    def __init__(self, array: np.ndarray, kind: int) -> None:
        self.array = array
        self.kind = kind

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    runtime = SimpleNamespace(getDeviceCount=lambda: 2)
    library = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    backend = xp.Backend("cupy", library, StrictArray, *[lambda *_: None] * 3, from_dlpack=lambda a: ("device", a))
    monkeypatch.setattr(xp, "_cupy_backend", lambda: backend)
    return library


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xp, "_cupy_backend", lambda: None)


def test_namespace_is_the_library_of_all_arrays(strict_device: xp.Device) -> None:
    host, device = np.zeros(2), strict_device.array(np.zeros(2))
    assert xp.namespace(host, host) is np
    assert xp.namespace(device, device) is strict


def test_arrays_on_different_sides_are_refused(strict_device: xp.Device) -> None:
    with pytest.raises(UsageError, match="different sides: numpy and strict"):
        xp.namespace(np.zeros(2), strict_device.array(np.zeros(2)))
    with pytest.raises(UsageError, match="none given"):
        xp.namespace()


@pytest.mark.parametrize("value", [[1.0], 1.0, None, "text", Foreign(np.zeros(2), 1)])
def test_what_is_no_array_of_ours_has_no_backend(value: Any) -> None:
    with pytest.raises(UsageError, match=f"not {type(value).__name__}"):
        xp.backend_of(value)


def test_asarray_keeps_our_arrays_as_they_are(strict_device: xp.Device) -> None:
    host, device = np.zeros(2), strict_device.array(np.zeros(2))
    assert xp.asarray(host) is host
    assert xp.asarray(device) is device


def test_asarray_takes_scalars_and_sequences() -> None:
    assert xp.asarray(2.5).shape == ()
    assert xp.asarray([1, 2]).tolist() == [1, 2]


def test_asarray_shares_memory_with_a_host_dlpack_object() -> None:
    array = np.arange(3.0)
    shared = xp.asarray(Foreign(array, 1))
    array[0] = 7
    assert isinstance(shared, np.ndarray) and shared.tolist() == [7, 1, 2]


@pytest.mark.parametrize("kind", [2, 13])
def test_a_cuda_dlpack_object_needs_a_device(no_gpu: None, kind: int) -> None:
    with pytest.raises(UsageError, match=f"DLPack device type {kind}, which needs cupy"):
        xp.asarray(Foreign(np.zeros(2), kind))


def test_a_cuda_dlpack_object_goes_to_cupy(two_gpus: object) -> None:
    foreign = Foreign(np.zeros(2), 2)
    assert xp.asarray(foreign) == ("device", foreign)


def test_an_unknown_dlpack_device_is_refused(two_gpus: object) -> None:
    with pytest.raises(UsageError, match="device type 10"):
        xp.asarray(Foreign(np.zeros(2), 10))


def test_to_host_copies_only_from_a_device(strict_device: xp.Device) -> None:
    host = np.arange(3.0)
    assert xp.to_host(host) is host
    device = strict_device.array(host)
    down = xp.to_host(device)
    assert isinstance(down, np.ndarray) and down.tolist() == [0, 1, 2]
    assert xp.is_host(down) and not xp.is_host(device)


@pytest.mark.parametrize("backend", [xp.NUMPY, STRICT], ids=lambda backend: backend.name)
def test_copies_between_sides_never_cast(backend: xp.Backend, strict_device: xp.Device) -> None:
    source = np.arange(3, dtype=np.float32)
    there = backend.to_device(source)
    out = np.empty(3, np.float32)
    xp.copy_to_host(there, out)
    backend.fill(there, out * 2)
    assert xp.to_host(there).tolist() == [0, 2, 4]
    assert source.tolist() == [0, 1, 2]
    with pytest.raises(TypeError):
        xp.copy_to_host(there, np.empty(3, np.int32))
    with pytest.raises(TypeError):
        backend.fill(there, np.zeros(3))


def test_the_host_is_a_device_that_copies() -> None:
    host = np.zeros(2)
    copy = xp.CPU.array(host)
    assert copy is not host and str(xp.CPU) == "cpu"
    xp.CPU.use()


@pytest.mark.parametrize("choice", ["gpu", "", "cuda:x", "cuda:-1", "tpu:0"])
def test_an_unknown_device_is_refused(choice: str) -> None:
    with pytest.raises(ConfigError, match="none of auto, cpu, cuda, cuda:N"):
        xp.device(choice)


@pytest.mark.parametrize("choice", ["cpu:0", "auto:1", "cuda:"])
def test_an_index_belongs_to_cuda_only(choice: str, two_gpus: object) -> None:
    with pytest.raises(ConfigError, match="none of auto, cpu, cuda, cuda:N"):
        xp.device(choice)


def test_without_a_gpu_auto_is_the_host_and_cuda_an_error(no_gpu: None) -> None:
    assert xp.device("auto") is xp.CPU
    assert xp.device("cpu", local_rank=3) is xp.CPU
    for choice in ("cuda", "cuda:0"):
        with pytest.raises(ConfigError, match="pip install cupy-cuda12x or cupy-cuda13x"):
            xp.device(choice)


def test_workers_of_a_host_share_its_gpus(two_gpus: object) -> None:
    assert [xp.device("cuda", rank).index for rank in range(4)] == [0, 1, 0, 1]
    assert [xp.device("auto", rank).index for rank in range(2)] == [0, 1]
    assert str(xp.device("cuda:1", 0)) == "cupy:1"
    assert xp.device("cpu", 1) is xp.CPU
    with pytest.raises(ConfigError, match=r"device cuda:2: this host has 2 CUDA device\(s\)"):
        xp.device("cuda:2")


def test_a_registered_library_is_known_until_taken_back() -> None:
    xp.register(STRICT)
    assert STRICT in xp.backends() and xp.backends()[0] is xp.NUMPY
    xp.unregister(STRICT)
    assert STRICT not in xp.backends()


def test_copy_goes_every_way_and_only_where_it_is_told(strict_device: xp.Device) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    for source in (values, strict_device.array(values)):
        on_device = xp.device_buffer(24, strict_device).view(np.float32).reshape(2, 3)
        assert not xp.to_host(on_device).any()
        xp.copy(source, on_device)
        on_host = np.empty_like(values)
        xp.copy(source, on_host)
        assert np.array_equal(xp.to_host(on_device), values) and np.array_equal(on_host, values)


def test_memory_that_arrays_have_in_common_is_found_on_a_device_as_on_the_host(strict_device: xp.Device) -> None:
    both = strict_device.array(np.zeros((4, 6), np.float32))
    assert xp.share_memory(both, both[1:]) and xp.share_memory(both.T, both[:2])
    assert not xp.share_memory(both[:2], both[2:]) and xp.extent(both[2:])[0] == xp.extent(both[:2])[1]
    assert not xp.share_memory(both[:, ::2], both[:, 1::2]) and xp.share_memory(both[:, ::2], both[:, ::2])
    assert not xp.share_memory(both, np.zeros((4, 6), np.float32))
