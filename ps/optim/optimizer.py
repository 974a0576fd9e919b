"""Optimizer, the interface every one fulfils."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ps.optim.kernel import Kernel
from ps.xp import Array, HostArray


class Optimizer(Protocol):
    """An optimizer is numbers and functions; its state is arrays that the caller holds."""

    @property
    def lr(self) -> float:
        """The base learning rate, which a schedule scales."""

    @property
    def weight_decay(self) -> float:
        """The factor of the weights that is added to the gradient, or taken off the weights."""

    @property
    def coupled(self) -> bool:
        """Whether weight decay is added to the gradient (L2), which the driver does; else it is added to the step."""

    @property
    def linear(self) -> bool:
        """Whether scaling the gradient is the same as scaling the learning rate."""

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the state arrays, each shaped like the weights."""

    @property
    def kernel(self) -> Kernel:
        """The update on a CUDA device."""

    def init(self, weights: Array) -> dict[str, Array]:
        """Return the state before the first update: shape, dtype and side of ``weights``."""

    def constants(self, lr: float, t: int, dtype: np.dtype[np.floating]) -> tuple[float, ...]:
        """Return the scalars of update number ``t`` (from 1), in double precision, in the kernel's order."""

    def update(
        self,
        w: HostArray,
        g: HostArray,
        state: tuple[HostArray, ...],
        scratch: tuple[HostArray, HostArray],
        constants: tuple[float, ...],
    ) -> None:
        """Update one block of ``w`` and ``state`` in place; ``g`` is read, ``scratch`` may be overwritten.

        All are (n,) in one dtype, float32 or float64; ``constants`` is what ``constants`` returned.
        """
