"""The global norm of a gradient that lies in chunks, and the factor that brings it down to a bound.

Each chunk gives its ``square_sum``; their sum, added in the order of the chunks, gives ``clip_scale``.
"""

from __future__ import annotations

import functools
import math
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from ps import native
from ps.lanes import lane_sums
from ps.optim.driver import DEVICE_BLOCK_BYTES, Reader
from ps.optim.workspace import Workspace
from ps.threads import ThreadTeam
from ps.xp import Array, HostArray, is_host, namespace

BLOCK = 1 << 17
"""Elements per block: its double-precision copy takes 1 MB."""

SHARE = 2
"""Blocks that a thread does at a time, so that small gradients stay with one."""

DOUBLE = np.dtype(np.float64)

_workspace = Workspace(BLOCK * DOUBLE.itemsize)
_single = ThreadTeam()


def square_sum(
    gradient: Array | Reader,
    size: int | None = None,
    dtype: DTypeLike | None = None,
    xp: Any = np,
    team: ThreadTeam | None = None,
) -> float:
    """Return the sum of squares of a gradient, added in double precision and always in the same order.

    ``gradient`` is an array, or a function ``read(lo, hi, out)`` as for ``apply``; then ``size``, ``dtype`` and,
    on a device, the namespace ``xp`` say what it reads. On the host the threads of ``team`` share out the blocks.
    NaN and Inf come out as they went in.
    """
    if not callable(gradient):
        if not is_host(gradient):
            return _device_sum(gradient)
        return _host_sum(lambda lo, hi, out: gradient[lo:hi], gradient.size, gradient.dtype, team or _single)
    if size is None or dtype is None:
        raise TypeError("square_sum of a function needs its size and dtype")
    if xp is np:
        return _host_sum(gradient, size, np.dtype(dtype), team or _single)
    block = DEVICE_BLOCK_BYTES // np.dtype(dtype).itemsize
    out = xp.empty(min(size, block), dtype)
    total = 0.0
    for lo in range(0, size, block):
        hi = min(lo + block, size)
        total += _device_sum(gradient(lo, hi, out[: hi - lo]))
    return total


def clip_scale(total_square_sum: float, max_norm: float) -> float:
    """Return the factor, at most 1, that scales a gradient with this sum of squares to norm ``max_norm``.

    A norm that is NaN or infinite, which there is only where nobody looks for NaN, clips nothing: any factor would
    make all of the weights NaN or leave them all as they are.

    Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, ICML 2013.
    """
    norm = math.sqrt(total_square_sum)
    return max_norm / norm if max_norm < norm < math.inf else 1.0


def _host_sum(read: Reader, size: int, dtype: np.dtype[Any], team: ThreadTeam) -> float:
    sums, compiled = [0.0] * -(-size // BLOCK), native.kernels()

    def work(first: int, last: int) -> None:
        for index in range(first, last):
            lo, hi = index * BLOCK, min((index + 1) * BLOCK, size)
            part = read(lo, hi, _workspace.block(dtype, 1, hi - lo))
            found = None if compiled is None else compiled.square_sum(native.raw(part))
            sums[index] = _block_sum(part) if found is None else found

    team.run(work, len(sums), SHARE)
    total = 0.0
    for value in sums:  # one by one: sum() rounds otherwise from Python 3.12 on
        total += value
    return total


def _block_sum(part: HostArray) -> float:
    double = _workspace.block(DOUBLE, 0, part.size)
    np.copyto(double, part)
    np.multiply(double, double, out=double)
    return float(lane_sums(double[None])[0])


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
