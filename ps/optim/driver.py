"""Apply an optimizer to a whole flat vector, one cache-sized block at a time.

Scaling, clipping and weight decay, which every optimizer shares, happen here, while the block is in cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from ps import native
from ps.errors import GradientError, UsageError
from ps.half import narrow
from ps.optim.optimizer import Optimizer
from ps.optim.weighted_sum import WeightedSum
from ps.optim.workspace import Workspace
from ps.threads import ThreadTeam
from ps.xp import Array, HostArray, is_host, namespace

DEVICE_BLOCK_BYTES = 16 << 20
"""Bytes per block on a CUDA device when the gradient is a function: what its buffer may take, large enough to
hide the launches."""

Reader: TypeAlias = Callable[[int, int, Array], Array]
"""``read(lo, hi, out)`` returns elements lo to hi of a gradient: ``out``, filled, or any array that holds them.
Several threads may call it at once."""


_workspace = Workspace()
_single = ThreadTeam()


def apply(
    optimizer: Optimizer,
    weights: Array,
    gradient: Array | Reader,
    state: Mapping[str, Array],
    *,
    lr: float,
    t: int,
    clip_value: float | None = None,
    scale: float = 1.0,
    half: Array | None = None,
    workspace: Workspace | None = None,
    team: ThreadTeam | None = None,
) -> None:
    """Update ``weights`` and ``state`` in place with one gradient.

    ``weights``: 1-D, float32 or float64, NumPy or CuPy. ``gradient``: an array like it, which is only read, or a
    function ``read(lo, hi, out)`` that returns its elements ``lo`` to ``hi``, asked for in order and once each;
    so that a sum over workers is made and used while it is in cache. ``state``: from ``optimizer.init``. ``lr``:
    the learning rate of this update, a schedule's factor included; ``t``: its number, from 1.

    ``half``, like the weights but in half precision, becomes a copy of them while they are in cache.

    The gradient is multiplied by ``scale``, then each element clipped to ``[-clip_value, clip_value]``. On the host
    the threads of ``team`` share out the blocks; then the gradient is read in any order and by several at once. The
    result depends neither on them, nor on the block size, nor on how the gradient is read. GradientError when a
    gradient's size or dtype does not match; UsageError when the weights or the state cannot be updated.
    """
    size, dtype = weights.size, weights.dtype
    _check(optimizer, weights, state, t)
    slots = tuple(state[name] for name in optimizer.slots)
    if not callable(gradient):
        _check_gradient(gradient, size, dtype)

    # Never w *= 1 - lr * decay: in float32 the factor, and so a small decay, would be rounded away.
    l2 = optimizer.weight_decay if optimizer.coupled else 0.0
    if optimizer.linear and clip_value is None and not l2:
        lr, scale = lr * scale, 1.0
    constants = optimizer.constants(lr, t, dtype)

    if not is_host(weights):
        shared = (scale, np.inf if clip_value is None else clip_value, l2)
        _apply_on_device(optimizer, weights, gradient, slots, shared, constants)
        if half is not None:
            half[...] = weights.astype(half.dtype)
        return

    own, team = workspace or _workspace, team or _single
    parts, shares, read = _terms(gradient, weights.nbytes)
    compiled = native.kernels() if optimizer.kernel.native else None
    numbers = scale, clip_value, l2
    copy = None if half is None else native.raw(half)

    def work(lo: int, hi: int) -> None:
        if compiled is not None and parts:
            whole = weights, slots, constants, parts, shares, *numbers, copy, 0.0, lo, hi
            if compiled.update(optimizer.kernel.name, *whole) is not None:
                return
        count = hi - lo
        out, first, second = (own.block(dtype, number, count) for number in range(3))
        w, state = weights[lo:hi], tuple(slot[lo:hi] for slot in slots)
        if callable(gradient):
            g = gradient(lo, hi, out)
            _check_gradient(g, count, dtype)
        else:
            g = gradient[lo:hi]
        if compiled is not None and not parts:
            block = w, state, constants, (g,), (1.0,), *numbers, copy if copy is None else copy[lo:hi], 0.0, 0, count
            if compiled.update(optimizer.kernel.name, *block) is not None:
                return
        if scale != 1.0:
            g = np.multiply(g, scale, out=out)
        if clip_value is not None:
            g = np.clip(g, -clip_value, clip_value, out=out)
        if l2:
            np.multiply(w, l2, out=first)
            g = np.add(g, first, out=out)
        optimizer.update(w, g, state, (first, second), constants)
        if half is not None:
            narrow(w, half[lo:hi])

    team.share(work, size, own.elements(dtype), (1 + len(slots)) * weights.nbytes + read)


def _terms(gradient: Array | Reader, nbytes: int) -> tuple[tuple[HostArray, ...], tuple[float, ...], int]:
    """Return of which arrays, times what, a gradient is the sum, none where it does not say; and how much is read."""
    if isinstance(gradient, WeightedSum):
        return tuple(map(native.raw, gradient.parts)), gradient.shares, gradient.nbytes
    return ((), (), 2 * nbytes) if callable(gradient) else ((gradient,), (1.0,), nbytes)


def _apply_on_device(
    optimizer: Optimizer,
    weights: Array,
    gradient: Array | Reader,
    slots: tuple[Array, ...],
    shared: tuple[float, ...],
    constants: tuple[float, ...],
) -> None:
    if not weights.size:
        return
    if not callable(gradient):
        optimizer.kernel(weights, gradient, slots, shared, constants)
        return
    block = min(weights.size, DEVICE_BLOCK_BYTES // weights.dtype.itemsize)
    out = namespace(weights).empty(block, weights.dtype)
    for lo in range(0, weights.size, block):
        hi = min(lo + block, weights.size)
        g = gradient(lo, hi, out[: hi - lo])
        _check_gradient(g, hi - lo, weights.dtype)
        optimizer.kernel(weights[lo:hi], g, tuple(slot[lo:hi] for slot in slots), shared, constants)


def _check(optimizer: Optimizer, weights: Array, state: Mapping[str, Array], t: int) -> None:
    if weights.ndim != 1 or weights.dtype not in (np.float32, np.float64):
        raise UsageError(f"weights must be 1-D float32 or float64, not {weights.ndim}-D {weights.dtype}")
    for name in optimizer.slots:
        slot = state.get(name)
        if slot is None:
            raise UsageError(f"the optimizer's state has no {name!r}. Was it made by this optimizer's init?")
        if slot.shape != weights.shape or slot.dtype != weights.dtype:
            raise UsageError(
                f"optimizer state {name!r} is {slot.dtype}{list(slot.shape)}, "
                f"the weights are {weights.dtype}{list(weights.shape)}"
            )
    if t < 1:
        raise UsageError(f"updates are numbered from 1, not {t}")


def _check_gradient(gradient: Array, size: int, dtype: np.dtype[np.floating]) -> None:
    if gradient.shape != (size,) or gradient.dtype != dtype:
        raise GradientError(f"expected a gradient of {dtype}[{size}], not {gradient.dtype}{list(gradient.shape)}")
