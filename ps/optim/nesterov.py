"""Gradient descent with Nesterov's momentum."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MOST_RATE, number
from ps.optim.kernel import Kernel
from ps.xp import Array, HostArray, namespace


@dataclass(frozen=True, slots=True)
class Nesterov:
    """Step along the gradient and the momentum it leaves: ``p = momentum * (p + g)``, ``w -= lr * (p + g)``.

    Nesterov, A method of solving a convex programming problem with convergence rate O(1/k²), 1983; in the form
    of Sutskever et al., ICML 2013. The state is ``p``, the discounted sum already multiplied by the momentum,
    which saves a pass over memory. Weight decay is added to the gradient. With lr 0.7 over deltas it is
    DiLoCo's outer step.
    """

    coupled: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    slots: ClassVar[tuple[str, ...]] = ("p",)
    kernel: ClassVar[Kernel] = Kernel(
        "nesterov", ("p",), ("lr", "momentum"), "p = momentum * (p + g); w -= lr * (p + g);", native=True
    )

    lr: float = number(0.01, at_least=0, at_most=MOST_RATE)
    momentum: float = number(0.9, at_least=0, below=1)
    weight_decay: float = number(0.0, at_least=0)

    def init(self, weights: Array) -> dict[str, Array]:
        """Return p = 0."""
        return {"p": namespace(weights).zeros_like(weights)}

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
        """Update one block in place: every array is (n,) in the weights' dtype, ``state`` is (p,)."""
        (p,), (s, _), (lr, momentum) = state, scratch, constants
        np.add(p, g, out=p)
        np.multiply(p, momentum, out=p)
        np.add(p, g, out=s)
        np.multiply(s, lr, out=s)
        np.subtract(w, s, out=w)
