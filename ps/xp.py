"""Array libraries behind one door: NumPy on the host, CuPy on a CUDA device, DLPack from anywhere.

CuPy is imported here and nowhere else. Nothing here converts between host and device silently:
the only ways are ``to_host``, ``copy_to_host`` and ``to_device``, and ``copy``, which goes where it is told to.
"""

from __future__ import annotations

import functools
import re
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ps.dataclass import dataclass
from ps.errors import ConfigError, UsageError

Array: TypeAlias = Any
"""A NumPy or CuPy array (or a test's stand-in)."""

HostArray: TypeAlias = NDArray[Any]
"""An array in host memory."""

_DLPACK_HOST = (1, 3)  # kDLCPU, kDLCUDAHost
_DLPACK_CUDA = (2, 13)  # kDLCUDA, kDLCUDAManaged


@dataclass(frozen=True, slots=True)
class Backend:
    """One array library: its namespace, its array type and the three ways across the bus."""

    name: str
    namespace: Any
    array_type: type
    to_host: Callable[[Array, HostArray], None]
    """Copy a device array into an existing host array of the same shape and dtype."""
    to_device: Callable[[HostArray], Array]
    """Return a device copy of a host array."""
    fill: Callable[[Array, HostArray], None]
    """Copy a host array into an existing device array of the same shape and dtype."""
    from_dlpack: Callable[[Any], Array]
    address: Callable[[Array], int] = lambda array: int(array.data.ptr)
    """Return where an array's first element lies."""


@functools.cache
def cupy() -> ModuleType | None:
    """Return the cupy module if it is installed and sees a device, else None."""
    try:
        import cupy
    except ImportError:
        return None
    try:
        return cupy if cupy.cuda.runtime.getDeviceCount() > 0 else None
    except cupy.cuda.runtime.CUDARuntimeError:
        return None


def _numpy_fill(target: HostArray, source: HostArray) -> None:
    np.copyto(target, source, casting="no")


NUMPY = Backend(
    "numpy",
    np,
    np.ndarray,
    to_host=lambda a, out: _numpy_fill(out, a),
    to_device=lambda a: a.copy(),
    fill=_numpy_fill,
    from_dlpack=np.from_dlpack,
    address=lambda array: int(array.ctypes.data),
)

_extra: list[Backend] = []


def register(backend: Backend) -> None:
    """Add an array library; used by tests for a strict stand-in device."""
    _extra.append(backend)


def unregister(backend: Backend) -> None:
    """Take back ``register``."""
    _extra.remove(backend)


@functools.cache
def _cupy_backend() -> Backend | None:
    cp = cupy()
    if cp is None:
        return None
    return Backend(
        "cupy",
        cp,
        cp.ndarray,
        to_host=lambda a, out: cp.asnumpy(a, out=out),
        to_device=cp.asarray,
        fill=lambda target, source: target.set(source),
        from_dlpack=cp.from_dlpack,
    )


def backends() -> list[Backend]:
    """Return the array libraries of this process, NumPy first."""
    device = _cupy_backend()
    return [NUMPY, *([device] if device else []), *_extra]


def backend_of(array: Array) -> Backend:
    """Return the library an array belongs to; UsageError when it is none of ours."""
    if isinstance(array, np.ndarray):
        return NUMPY
    for backend in backends():
        if isinstance(array, backend.array_type):
            return backend
    raise UsageError(f"expected a NumPy, CuPy or DLPack array, not {type(array).__name__}")


def namespace(*arrays: Array) -> Any:
    """Return the module (numpy, cupy) all arrays belong to; UsageError when they are on different sides."""
    found = {backend.name: backend for backend in map(backend_of, arrays)}
    if len(found) != 1:
        raise UsageError(f"arrays live on different sides: {' and '.join(sorted(found)) or 'none given'}")
    return next(iter(found.values())).namespace


def is_host(array: Array) -> bool:
    """Whether the array is in host memory."""
    return isinstance(array, np.ndarray)


def asarray(value: Any) -> Array:
    """Return ``value`` as an array of ours without copying: NumPy, CuPy or anything that speaks DLPack.

    Python scalars and sequences become NumPy arrays. UsageError for a DLPack object on a device that no
    installed library can address.
    """
    for backend in backends():
        if isinstance(value, backend.array_type):
            return value
    if not hasattr(value, "__dlpack__"):
        return np.asarray(value)
    kind = int(value.__dlpack_device__()[0])
    if kind in _DLPACK_HOST:
        return np.from_dlpack(value)
    device = _cupy_backend()
    if kind in _DLPACK_CUDA and device is not None:
        return device.from_dlpack(value)
    raise UsageError(
        f"{type(value).__name__} lives on DLPack device type {kind}, which needs cupy and a CUDA device here"
    )


def extent(array: Array) -> tuple[int, int]:
    """Return the addresses of an array's first byte and of the one after its last."""
    low = high = backend_of(array).address(array)
    for count, stride in zip(array.shape, array.strides, strict=True):
        low, high = (low + (count - 1) * stride, high) if stride < 0 else (low, high + (count - 1) * stride)
    return low, high + array.itemsize


def share_memory(a: Array, b: Array) -> bool:
    """Whether two arrays have elements in common. Of views with gaps on a device only the same one is found."""
    if is_host(a) != is_host(b):
        return False
    if is_host(a):
        return np.shares_memory(a, b)
    (low, high), (start, stop) = extent(a), extent(b)
    are_dense = high - low == a.nbytes and stop - start == b.nbytes
    return max(low, start) < min(high, stop) if are_dense else (low, high, a.shape) == (start, stop, b.shape)


def copy_to_host(array: Array, out: HostArray) -> None:
    """Copy an array, from wherever it is, into ``out`` (host, same shape and dtype)."""
    backend_of(array).to_host(array, out)


def copy(array: Array, out: Array) -> None:
    """Copy an array, from wherever it is, into ``out`` (wherever that is, contiguous, same shape and dtype)."""
    if is_host(out):
        copy_to_host(array, out)
    elif is_host(array):
        backend_of(out).fill(out, array)
    else:
        namespace(array, out).copyto(out, array)


def to_host(array: Array) -> HostArray:
    """Return the array in host memory: itself if it is there, else a copy."""
    if isinstance(array, np.ndarray):
        return array
    out = np.empty(array.shape, array.dtype)
    copy_to_host(array, out)
    return out


def host_buffer(nbytes: int, device: Device) -> HostArray:
    """Return host memory (uint8), all 0; pinned when the device is CUDA, so that copies are fast."""
    if device.backend.name == "cupy" and nbytes:
        memory = np.frombuffer(device.backend.namespace.cuda.alloc_pinned_memory(nbytes), np.uint8, nbytes)
        memory.fill(0)
        return memory
    return np.zeros(nbytes, np.uint8)


def device_buffer(nbytes: int, device: Device) -> Array:
    """Return memory on the device (uint8), all 0."""
    return device.backend.namespace.zeros(nbytes, np.uint8)


def pinned(array: HostArray, device: Device) -> HostArray:
    """Return ``array``, with its memory registered for fast copies when the device is CUDA, for as long as it lives."""
    if device.backend.name == "cupy" and array.nbytes:
        runtime, address = device.backend.namespace.cuda.runtime, array.ctypes.data
        runtime.hostRegister(address, array.nbytes, 0)
        weakref.finalize(array, runtime.hostUnregister, address).atexit = False
    return array


@dataclass(frozen=True, slots=True)
class Device:
    """Where a worker computes: the host, or CUDA device ``index``."""

    backend: Backend
    index: int = 0

    def __str__(self) -> str:
        return "cpu" if self.backend is NUMPY else f"{self.backend.name}:{self.index}"

    def array(self, host: HostArray) -> Array:
        """Return a copy of a host array on this device."""
        return self.backend.to_device(host)

    def use(self) -> None:
        """Make this the current device of the calling thread."""
        if self.backend.name == "cupy":
            self.backend.namespace.cuda.Device(self.index).use()


CPU = Device(NUMPY)


def device(choice: str, local_rank: int = 0) -> Device:
    """Return the device for ``choice``: cpu, cuda, cuda:N, or auto (cuda when there is one).

    Without an index, device ``local_rank`` modulo the number of devices is taken, so that the workers of
    one host share its GPUs evenly. ConfigError when CUDA is asked for and cannot be had.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", choice):
        raise ConfigError(f"device {choice!r} is none of auto, cpu, cuda, cuda:N")
    if choice == "cpu":
        return CPU
    kind, _, index = choice.partition(":")
    found = _cupy_backend()
    if found is None:
        if kind == "auto":
            return CPU
        raise ConfigError("device cuda: no CUDA device, or no cupy (pip install cupy-cuda12x or cupy-cuda13x)")
    count = found.namespace.cuda.runtime.getDeviceCount()
    if index and int(index) >= count:
        raise ConfigError(f"device {choice}: this host has {count} CUDA device(s)")
    return Device(found, int(index) if index else local_rank % count)
