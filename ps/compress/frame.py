"""Frames as bytes, and vectors as blocks and rows: what every codec needs to write the one from the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ps import native
from ps.errors import BadMessage, UsageError
from ps.xp import Array, HostArray, backend_of, is_host, namespace

BLOCK = 1 << 17
"""Elements per block on the host, a multiple of every codec's row: 512 KB of float32, of which up to four are in use.
Measured over all codecs with 1 MB of L2 and 32 MB of L3: half as many take 5 to 10 % longer, a quarter 20 to 80 %."""


def blocks(array: Array) -> Iterator[tuple[int, int]]:
    """Cut a vector into blocks that fit the caches; on a device it is one block."""
    step = BLOCK if is_host(array) else max(1, array.size)
    return ((lo, min(lo + step, array.size)) for lo in range(0, array.size, step))


def scratch(array: Array, *dtypes: Any) -> list[Array]:
    """Return an uninitialised vector for each dtype, long enough for any block of ``array``, on its side."""
    xp = namespace(array)
    count = min(array.size, BLOCK) if is_host(array) else array.size
    return [xp.empty(count, dtype) for dtype in dtypes]


def spans(lo: int, hi: int, width: int) -> Iterator[tuple[int, int]]:
    """Cut the range into the rest of a row, whole rows, and the start of a row, of ``width`` elements each."""
    while lo < hi:
        within = lo % width or hi - lo < width
        end = min(hi, lo - lo % width + width) if within else hi - hi % width
        yield lo, end
        lo = end


def like(array: Array, host: HostArray) -> Array:
    """Return a host array on the side of ``array``: itself, or a copy on the device."""
    return host if is_host(array) else backend_of(array).to_device(host)


def buffer(values: Array, nbytes: int, out: Array | None) -> Array:
    """Return where a frame of ``nbytes`` goes: the start of ``out``, or a new array beside ``values``.

    UsageError when ``out`` is too small or no vector of bytes.
    """
    if out is None:
        return namespace(values).empty(nbytes, np.uint8)
    namespace(values, out)
    if out.ndim != 1 or out.dtype != np.uint8 or out.size < nbytes:
        raise UsageError(f"a frame of {nbytes} bytes does not fit {out.dtype}{list(out.shape)}; ask max_bytes")
    return out[:nbytes]


def clipped(values: Array, bound: float, out: Array) -> None:
    """Write ``values``, held within ``±bound``, into ``out``, which is float32."""
    xp = namespace(values, out)
    if values.dtype == out.dtype:
        xp.clip(values, -bound, bound, out=out)
    else:
        xp.copyto(out, xp.clip(values, -bound, bound), casting="same_kind")


def rounded(values: Array, bound: float, halves: Array) -> bool:
    """Write ``values``, held within ``±bound``, into ``halves`` of half precision where compiled loops can do that."""
    compiled = native.kernels() if is_host(values) else None
    return compiled is not None and compiled.narrow(values, native.raw(halves), bound) is not None


def expanded(halves: Array, out: Array) -> bool:
    """Write numbers of half precision into ``out`` where compiled loops can do that."""
    compiled = native.kernels() if is_host(halves) else None
    return compiled is not None and compiled.widen(native.raw(halves), out) is not None


def are_within(halves: Array, bound: float) -> bool | None:
    """Return whether halves are within ``±bound``, and so no NaN; None where no compiled loop can tell."""
    compiled = native.kernels() if is_host(halves) else None
    return None if compiled is None else compiled.check(native.raw(halves), bound)


def demand(holds: bool, wrong: str) -> None:
    """Raise BadMessage when a received frame does not hold together."""
    if not holds:
        raise BadMessage(f"compressed chunk: {wrong}")


def demand_bytes(frame: Array, nbytes: int) -> None:
    """Raise BadMessage when a received frame has another length."""
    demand(frame.size == nbytes, f"expected {nbytes} bytes, got {frame.size}")


def largest(array: Array) -> float:
    """Return the largest magnitude, 0 for an empty array; NaN or Inf when one is in it."""
    return max(float(array.max()), -float(array.min())) if array.size else 0.0


def demand_finite(array: Array, what: str) -> None:
    """Raise BadMessage when there is a NaN or Inf."""
    demand(math.isfinite(largest(array)), f"{what} with NaN or Inf")
