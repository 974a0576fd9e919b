"""Arrays: what a script hands in as a tensor or a gradient, as a plain array, or in words why it is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ps import xp
from ps.errors import UsageError
from ps.xp import Array

PLAIN = (np.ndarray, np.matrix, np.memmap)
"""Arrays that mean no more than their elements."""

CONVERT = "convert it, for instance x.astype('float32') in NumPy, x.float() in PyTorch"


def plain(value: Any) -> Array:
    """Return ``value`` as an array of ours without copying: NumPy, CuPy, DLPack, or what NumPy can read.

    Raises UsageError with what is wrong as the end of a sentence that begins with the tensor's name.
    """
    if type(value) is np.ndarray:
        return value
    if value is None:
        raise UsageError("is None")
    if isinstance(value, Mapping):
        raise UsageError("is a dict itself: give one flat dict of arrays, with names such as 'layer0/weight'")
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise UsageError("is a masked array: fill what is masked first, for instance x.filled(0)")
        return np.asarray(value)
    if isinstance(value, np.ndarray) and type(value) not in PLAIN:
        kind = type(value).__name__
        raise UsageError(f"is a {kind}, which means more than its numbers: give the numbers, np.asarray(x)")
    try:
        found = xp.asarray(value)
    except Exception as error:  # whatever a foreign array library raises when it cannot hand out its memory
        if "float16" in str(getattr(value, "dtype", "")):  # NumPy has no bfloat16
            raise UsageError(f"has dtype {value.dtype}, which cannot be read here: {CONVERT}") from None
        raise UsageError(f"cannot be read: {error}") from error
    if isinstance(found, np.ndarray):
        found = np.asarray(found)
        if found.dtype.kind == "O":
            raise UsageError(f"is a {type(value).__name__}, which is no array of numbers")
    return found
