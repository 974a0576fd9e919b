"""Plain stochastic gradient descent."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MOST_RATE, number
from ps.optim.kernel import Kernel
from ps.xp import Array, HostArray


@dataclass(frozen=True, slots=True)
class SGD:
    """Step against the gradient: ``w -= lr * g``.

    Robbins and Monro, A stochastic approximation method, 1951. Weight decay is added to the gradient.
    """

    coupled: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    slots: ClassVar[tuple[str, ...]] = ()
    kernel: ClassVar[Kernel] = Kernel("sgd", (), ("lr",), "w -= lr * g;", native=True)

    lr: float = number(0.01, at_least=0, at_most=MOST_RATE)
    weight_decay: float = number(0.0, at_least=0)

    def init(self, weights: Array) -> dict[str, Array]:
        """Return no state."""
        return {}

    def constants(self, lr: float, t: int, dtype: np.dtype[np.floating]) -> tuple[float, ...]:
        """Return the learning rate."""
        return (lr,)

    def update(
        self,
        w: HostArray,
        g: HostArray,
        state: tuple[HostArray, ...],
        scratch: tuple[HostArray, HostArray],
        constants: tuple[float, ...],
    ) -> None:
        """Update one block in place: every array is (n,) in the weights' dtype, there is no ``state``."""
        (lr,) = constants
        s, _ = scratch
        np.multiply(g, lr, out=s)
        np.subtract(w, s, out=w)
