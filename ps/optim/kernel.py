"""Kernel: an optimizer's update as one fused CUDA loop over all elements, compiled by CuPy on first use.

Each optimizer keeps the body of its kernel beside the NumPy lines that do the same. What all share, scaling
and clipping the gradient and weight decay, is here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from ps.dataclass import dataclass
from ps.xp import Array, namespace

# Comparisons instead of fmin and fmax, which would turn a NaN into a bound and hide it.
PROLOGUE = """
T g = grad * scale;
g = g > bound ? bound : (g < -bound ? -bound : g);
g += l2 * w;
"""

SHARED = ("scale", "bound", "l2")
"""The scalars of the prologue: gradient factor, largest element, coupled decay."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One optimizer's loop body: CUDA C++ over ``w``, ``g``, its slots and its constants, all of one type T."""

    name: str
    slots: tuple[str, ...]
    constants: tuple[str, ...]
    body: str
    native: bool = False
    """Whether ``ps.native`` has a loop of this name, with the very bits of the optimizer's NumPy lines."""

    @property
    def in_params(self) -> str:
        """What the loop reads: the gradient array, then scalars in the order of the call."""
        return ", ".join(f"T {name}" for name in ("grad", *SHARED, *self.constants))

    @property
    def out_params(self) -> str:
        """What the loop reads and writes: the weights, then the state."""
        return ", ".join(f"T {name}" for name in ("w", *self.slots))

    @property
    def operation(self) -> str:
        """The loop body with the shared prologue."""
        return PROLOGUE + self.body

    def __call__(
        self,
        weights: Array,
        gradient: Array,
        state: Sequence[Array],
        shared: tuple[float, ...],
        own: tuple[float, ...],
    ) -> None:
        """Update ``weights`` and ``state`` in place, on the device and stream that are current."""
        compiled(namespace(weights, gradient, *state), self)(gradient, *shared, *own, weights, *state)


@functools.cache
def compiled(xp: Any, kernel: Kernel) -> Any:
    """Return the CuPy kernel; cached, so that each is compiled once a process and type."""
    return xp.ElementwiseKernel(
        kernel.in_params, kernel.out_params, kernel.operation, f"ps_{kernel.name}", no_return=True
    )
