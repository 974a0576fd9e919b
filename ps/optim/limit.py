"""Limit: how large an element of a gradient may be, so that neither its square nor sums over workers overflow.

Beyond it, one gradient makes Adam's and its kin's second moments infinite, and the weight never moves again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ps import native
from ps.half import is_half, parts_of
from ps.xp import Array, HostArray, is_host, namespace

LIMITS = {"float32": 2.0**54, "float64": 2.0**492, "bfloat16": 2.0**54, "float16": 65504.0}
"""The largest magnitude by dtype: float32 has room for 2^20 squares of it, the steps that an accumulator may add up;
float64, in which norms are taken, for 2^40 of them, the elements of the largest model. Half precision is worked with in
float32."""


_BY_DTYPE = {np.dtype(name): limit for name, limit in LIMITS.items()}


def limit_of(dtype: np.dtype[Any]) -> float:
    """Return the largest magnitude that an element of a gradient may have."""
    return _BY_DTYPE[dtype]


def within_limit(vector: HostArray) -> bool:
    """Whether no element of a vector is NaN, Inf or beyond the limit; usually one pass, and no memory."""
    if not vector.size:
        return True
    if (compiled := native.kernels()) is not None:
        found = compiled.check(native.raw(vector), limit_of(vector.dtype))
        if found is not None:
            return found
    if is_half(vector.dtype):
        return all(map(within_limit, parts_of(vector)))
    limit = limit_of(vector.dtype)
    with np.errstate(all="ignore"):
        # What is NaN or too large makes the sum of squares so as well. A sum may be too large by itself: look closely.
        return bool(np.dot(vector, vector) <= limit * limit) or bool(-limit <= vector.min() and vector.max() <= limit)


def copy_within(target: HostArray, source: HostArray) -> bool:
    """Copy a vector, and return whether ``within_limit`` holds for it: one pass where compiled loops do both."""
    if (compiled := native.kernels()) is not None:
        found = compiled.copy(native.raw(target), native.raw(source), limit_of(source.dtype))
        if found is not None:
            return found
    np.copyto(target, source)
    return within_limit(target)


def elements_within(array: Array) -> Array:
    """Return which elements are neither NaN, nor Inf, nor beyond the limit, on the array's side."""
    xp = namespace(array)
    return xp.absolute(array) <= limit_of(array.dtype)


def all_within(vectors: list[Array]) -> bool:
    """Like ``within_limit`` for vectors of one side; from a device one scalar crosses for all of them."""
    if not vectors or is_host(vectors[0]):
        return all(map(within_limit, vectors))
    xp = namespace(*vectors)
    return bool(xp.stack([elements_within(vector).all() for vector in vectors]).all())
