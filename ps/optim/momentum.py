"""Gradient descent with heavy-ball momentum."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MOST_RATE, number
from ps.optim.kernel import Kernel
from ps.xp import Array, HostArray, namespace


@dataclass(frozen=True, slots=True)
class Momentum:
    """Step along a discounted sum of gradients: ``m = momentum * m + g``, ``w -= lr * m``.

    Polyak, Some methods of speeding up the convergence of iteration methods, 1964; in the form of Sutskever
    et al., ICML 2013, that frameworks use: the learning rate is outside the sum. Weight decay is added to the
    gradient.
    """

    coupled: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    slots: ClassVar[tuple[str, ...]] = ("m",)
    kernel: ClassVar[Kernel] = Kernel(
        "momentum", ("m",), ("lr", "momentum"), "m = momentum * m + g; w -= lr * m;", native=True
    )

    lr: float = number(0.01, at_least=0, at_most=MOST_RATE)
    momentum: float = number(0.9, at_least=0, below=1)
    weight_decay: float = number(0.0, at_least=0)

    def init(self, weights: Array) -> dict[str, Array]:
        """Return m = 0."""
        return {"m": namespace(weights).zeros_like(weights)}

    def constants(self, lr: float, t: int, dtype: np.dtype[np.floating]) -> tuple[float, ...]:
        """Return the learning rate and the momentum."""
        return lr, self.momentum

    def update(
        self,
        w: HostArray,
        g: HostArray,
        state: tuple[HostArray, ...],
        scratch: tuple[HostArray, HostArray],
        constants: tuple[float, ...],
    ) -> None:
        """Update one block in place: every array is (n,) in the weights' dtype, ``state`` is (m,)."""
        (m,), (s, _), (lr, momentum) = state, scratch, constants
        np.multiply(m, momentum, out=m)
        np.add(m, g, out=m)
        np.multiply(m, lr, out=s)
        np.subtract(w, s, out=w)
