"""ArrayKind: which arrays a pipeline's layers work with, and the way to host memory and back, for the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ps import xp
from ps.dataclass import dataclass
from ps.sequences import rebuilt
from ps.xp import Array, HostArray


@dataclass(frozen=True, slots=True)
class ArrayKind:
    """One library of arrays; those of NumPy and CuPy unless another is given."""

    types: tuple[Any, ...]
    join: Callable[[list[Any], int], Any]
    """Returns arrays joined along an axis."""
    to_host: Callable[[Any], HostArray]
    from_host: Callable[[HostArray], Any]
    """Returns an array of this kind, where the layers compute; it may be the same memory."""
    copy: Callable[[Any], Any]
    array: Callable[[Any], Array]
    """Returns an array of this kind as NumPy or CuPy have it, which gradients are given as; it is the same memory."""

    def tree(self, function: Callable[[Any], Any], values: Any) -> Any:
        """Return a tree with ``function`` of each array, and the rest as it is."""
        if isinstance(values, self.types):
            return function(values)
        if isinstance(values, Mapping):
            return {key: self.tree(function, value) for key, value in values.items()}
        if isinstance(values, list | tuple):
            return rebuilt(values, [self.tree(function, value) for value in values])
        return values


def leaves(values: Any, name: str) -> list[tuple[str, Any]]:
    """Return what is at the ends of a tree, with the way there: ``x.tokens``, ``x.1``."""
    if isinstance(values, Mapping):
        return [leaf for key, value in values.items() for leaf in leaves(value, f"{name}.{key}")]
    if isinstance(values, list | tuple):
        return [leaf for key, value in enumerate(values) for leaf in leaves(value, f"{name}.{key}")]
    return [(name, values)]


def here(device: xp.Device = xp.CPU) -> ArrayKind:
    """Return the arrays of this process's libraries, on a device."""

    def join(parts: list[Array], axis: int) -> Array:
        return xp.namespace(*parts).concatenate(parts, axis)

    def from_host(array: HostArray) -> Array:
        return array if device.backend is xp.NUMPY else device.array(array)

    return ArrayKind(
        tuple(each.array_type for each in xp.backends()), join, xp.to_host, from_host, lambda array: array.copy(), _same
    )


def _same(array: Array) -> Array:
    return array


def shown(values: Any) -> str:
    """Return what a value is, for people: ``float32[64, 10]``, or its type's name."""
    if isinstance(values, Mapping | list | tuple):
        inside = ", ".join(text for _, leaf in leaves(values, "")[:4] for text in [shown(leaf)])
        return f"{type(values).__name__}({inside})"
    shape, dtype = getattr(values, "shape", None), getattr(values, "dtype", None)
    if shape is None or dtype is None:
        return type(values).__name__
    return f"{str(dtype).rpartition('.')[2]}{list(shape)}"  # torch's begin with its name


def is_finite(values: Any, kind: ArrayKind) -> bool:
    """Whether there is neither NaN nor Inf in the arrays of a tree."""
    arrays = (kind.to_host(leaf) for _, leaf in leaves(values, "") if isinstance(leaf, kind.types))
    return all(bool(np.isfinite(array.astype(np.float64)).all()) for array in arrays if array.dtype.kind in "fV")
