"""A stand-in for a CUDA device: arrays that behave like CuPy's and refuse what CuPy refuses, without hardware.

The numbers lie in host memory, but only ``STRICT.to_host`` hands them out. Mixing with NumPy arrays, implicit
conversion and NumPy's own functions raise TypeError, in some cases where CuPy would help silently.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ps import xp


class StrictArray:
    """An array on the stand-in device."""

    __slots__ = ("_host",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: np.ndarray) -> None:
        self._host = host

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("implicit conversion of a device array to a NumPy array")

    def __array_ufunc__(self, ufunc: Any, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"np.{ufunc.__name__} got a device array")

    def __array_function__(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"np.{func.__name__} got a device array")

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    size = property(lambda self: self._host.size)
    ndim = property(lambda self: self._host.ndim)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: StrictArray(self._host.T))

    def __repr__(self) -> str:
        return f"StrictArray({self.dtype}{self.shape})"

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[StrictArray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        return _wrap(self._host[_unwrap(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_unwrap(key)] = _unwrap(value)


def _unwrap(value: Any) -> Any:
    """Return arguments with host arrays in place of device arrays; TypeError for host arrays among them."""
    if isinstance(value, StrictArray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError("a NumPy array where a device array is expected")
    if isinstance(value, tuple | list):
        return type(value)(map(_unwrap, value))
    return value


def _wrap(value: Any) -> Any:
    return StrictArray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def _on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        unwrapped = {name: _unwrap(value) for name, value in kwargs.items()}
        return _wrap(function(*map(_unwrap, args), **unwrapped))

    return call


def _in_place(function: Callable[..., Any]) -> Callable[..., StrictArray]:
    def call(self: StrictArray, other: Any) -> StrictArray:
        function(self._host, _unwrap(other))
        return self

    return call


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
_COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
_REDUCTIONS = ("sum", "max", "min", "mean", "argmax", "argmin", "any", "all")
_METHODS = ("dot", "reshape", "ravel", "transpose", "astype", "copy", "view", "fill", "clip", "cumsum")

for _name in [*_BINARY, *_COMPARE, "neg", "invert", "abs"]:
    setattr(StrictArray, f"__{_name}__", _on_device(getattr(operator, f"__{_name}__")))
for _name in _BINARY:
    _forward = getattr(operator, f"__{_name}__")
    setattr(StrictArray, f"__r{_name}__", _on_device(lambda a, b, f=_forward: f(b, a)))
    setattr(StrictArray, f"__i{_name}__", _in_place(getattr(operator, f"__i{_name}__")))
for _name in (*_REDUCTIONS, *_METHODS):
    setattr(StrictArray, _name, _on_device(getattr(np.ndarray, _name)))
for _kind in (bool, int, float):  # CuPy waits for the device and answers, so does this
    setattr(StrictArray, f"__{_kind.__name__}__", lambda self, kind=_kind: kind(self._host))


class _Namespace:
    """The functions that code for both sides may use, as ``cupy`` would offer them."""

    float16, float32, float64, int32, int64, bool_ = (
        np.float16,
        np.float32,
        np.float64,
        np.int32,
        np.int64,
        np.bool_,
    )
    ndarray = StrictArray


_FUNCTIONS = """
    abs add all any arange argmax clip concatenate copyto divide dot empty empty_like exp full isfinite isnan log
    matmul maximum mean minimum multiply ones ones_like pad sign sqrt square stack subtract sum where zeros
    log1p zeros_like absolute bitwise_and flatnonzero greater_equal left_shift packbits partition right_shift rint
    searchsorted sort take
"""
for _name in _FUNCTIONS.split():
    setattr(_Namespace, _name, staticmethod(_on_device(getattr(np, _name))))

strict = _Namespace()


def _to_host(array: StrictArray, out: np.ndarray) -> None:
    np.copyto(out, array._host, casting="no")


def _to_device(host: np.ndarray) -> StrictArray:
    if not isinstance(host, np.ndarray):
        raise TypeError(f"to_device got {type(host).__name__}, not a NumPy array")
    return StrictArray(host.copy())


def _fill(target: StrictArray, source: np.ndarray) -> None:
    np.copyto(target._host, source, casting="no")


def _from_dlpack(value: Any) -> StrictArray:
    raise TypeError("the stand-in device does not speak DLPack")


def _address(array: StrictArray) -> int:
    return int(array._host.ctypes.data)


STRICT = xp.Backend("strict", strict, StrictArray, _to_host, _to_device, _fill, _from_dlpack, _address)


@contextlib.contextmanager
def strict_device() -> Iterator[xp.Device]:
    """Register the stand-in as a device for as long as this is open; its arrays are ``StrictArray``s."""
    xp.register(STRICT)
    try:
        yield xp.Device(STRICT)
    finally:
        xp.unregister(STRICT)
