"""Adagrad: a learning rate for each weight that shrinks with the gradients it has seen."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MOST_RATE, number
from ps.optim.kernel import Kernel
from ps.xp import Array, HostArray, namespace


@dataclass(frozen=True, slots=True)
class Adagrad:
    """Divide by the root of the sum of squares: ``v += g²``, ``w -= lr * g / (√v + eps)``.

    Duchi, Hazan and Singer, Adaptive subgradient methods for online learning and stochastic optimization,
    JMLR 2011. ``lr_decay`` divides the learning rate by ``1 + (t - 1) * lr_decay``; ``initial`` is v before the
    first update. Weight decay is added to the gradient.
    """

    coupled: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    slots: ClassVar[tuple[str, ...]] = ("v",)
    kernel: ClassVar[Kernel] = Kernel(
        "adagrad", ("v",), ("lr", "eps"), "v += g * g; w -= lr * g / (sqrt(v) + eps);", native=True
    )

    lr: float = number(0.01, at_least=0, at_most=MOST_RATE)
    lr_decay: float = number(0.0, at_least=0)
    initial: float = number(0.0, at_least=0)
    eps: float = number(1e-10, at_least=1e-30)
    weight_decay: float = number(0.0, at_least=0)

    def init(self, weights: Array) -> dict[str, Array]:
        """Return v filled with ``initial``."""
        return {"v": namespace(weights).full_like(weights, self.initial)}

    def constants(self, lr: float, t: int, dtype: np.dtype[np.floating]) -> tuple[float, ...]:
        """Return the decayed learning rate and eps."""
        return lr / (1 + (t - 1) * self.lr_decay), self.eps

    def update(
        self,
        w: HostArray,
        g: HostArray,
        state: tuple[HostArray, ...],
        scratch: tuple[HostArray, HostArray],
        constants: tuple[float, ...],
    ) -> None:
        """Update one block in place: every array is (n,) in the weights' dtype, ``state`` is (v,)."""
        (v,), (s, _), (lr, eps) = state, scratch, constants
        np.square(g, out=s)
        np.add(v, s, out=v)
        np.sqrt(v, out=s)
        np.add(s, eps, out=s)
        np.divide(g, s, out=s)
        np.multiply(s, lr, out=s)
        np.subtract(w, s, out=w)
