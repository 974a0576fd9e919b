"""The global norm of a gradient that lies in chunks, and the factor that brings it down to a bound.

Each chunk gives its ``square_sum``; their sum, added in the order of the chunks, gives ``clip_scale``.
"""

from __future__ import annotations

import functools
import math
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from ps.optim.driver import DEVICE_BLOCK_BYTES, Reader
from ps.xp import Array, HostArray, is_host, namespace

BLOCK = 1 << 17
"""Elements per block: its double-precision copy takes 1 MB."""


def square_sum(
    gradient: Array | Reader, size: int | None = None, dtype: DTypeLike | None = None, xp: Any = np
) -> float:
    """Return the sum of squares of a gradient, added in double precision and always in the same order.

    ``gradient`` is an array, or a function ``read(lo, hi, out)`` as for ``apply``; then ``size``, ``dtype`` and,
    on a device, the namespace ``xp`` say what it reads. NaN and Inf come out as they went in.
    """
    if not callable(gradient):
        return _host_sum(gradient, np.empty(BLOCK)) if is_host(gradient) else _device_sum(gradient)
    if size is None or dtype is None:
        raise TypeError("square_sum of a function needs its size and dtype")
    block = BLOCK if xp is np else DEVICE_BLOCK_BYTES // np.dtype(dtype).itemsize
    out = xp.empty(min(size, block), dtype)
    double = np.empty(BLOCK)
    total = 0.0
    for lo in range(0, size, block):
        hi = min(lo + block, size)
        part = gradient(lo, hi, out[: hi - lo])
        total += _host_sum(part, double) if xp is np else _device_sum(part)
    return total


def clip_scale(total_square_sum: float, max_norm: float) -> float:
    """Return the factor, at most 1, that scales a gradient with this sum of squares to norm ``max_norm``.

    Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, ICML 2013.
    """
    norm = math.sqrt(total_square_sum)
    return max_norm / norm if norm > max_norm else 1.0


def _host_sum(array: HostArray, double: HostArray) -> float:
    total = 0.0
    for lo in range(0, array.size, BLOCK):
        part = array[lo : lo + BLOCK]
        d = double[: part.size]
        np.copyto(d, part)
        np.multiply(d, d, out=d)
        total += float(np.add.reduce(d))
    return total


def _device_sum(array: Array) -> float:
    return float(_reduction(namespace(array))(array))


@functools.cache
def _reduction(xp: Any) -> Any:
    return cast(
        Any,
        xp.ReductionKernel(
            "T x",
            "float64 y",
            "(double)x * (double)x",
            "a + b",
            "y = a",
            "0",
            "ps_square_sum",
            reduce_type="double",
        ),
    )
