"""RMSprop: each weight's gradient divided by its recent root mean square."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MAX_BETA, MOST_RATE, number
from ps.optim.kernel import Kernel
from ps.xp import Array, HostArray, namespace


@dataclass(frozen=True, slots=True)
class RMSprop:
    """Divide by the root of a running mean: ``v = alpha * v + (1 - alpha) * g²``, ``w -= lr * g / (√v + eps)``.

    Tieleman and Hinton, Neural networks for machine learning, lecture 6.5, 2012. The state is ``v / (1 - alpha)``,
    a discounted sum, which saves a pass over memory. Weight decay is added to the gradient.
    """

    coupled: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    slots: ClassVar[tuple[str, ...]] = ("v",)
    kernel: ClassVar[Kernel] = Kernel(
        "rmsprop",
        ("v",),
        ("alpha", "eps", "step"),
        "v = alpha * v + g * g; w -= step * g / (sqrt(v) + eps);",
        native=True,
    )

    lr: float = number(0.01, at_least=0, at_most=MOST_RATE)
    alpha: float = number(0.99, at_least=0, at_most=MAX_BETA)
    eps: float = number(1e-8, at_least=1e-30)
    weight_decay: float = number(0.0, at_least=0)

    def init(self, weights: Array) -> dict[str, Array]:
        """Return v = 0."""
        return {"v": namespace(weights).zeros_like(weights)}

    def constants(self, lr: float, t: int, dtype: np.dtype[np.floating]) -> tuple[float, ...]:
        """Return alpha as the arrays' type rounds it, and eps and lr in the scale of the discounted sum."""
        alpha = float(dtype.type(self.alpha))
        root = math.sqrt(1 - alpha)
        return alpha, self.eps / root, lr / root

    def update(
        self,
        w: HostArray,
        g: HostArray,
        state: tuple[HostArray, ...],
        scratch: tuple[HostArray, HostArray],
        constants: tuple[float, ...],
    ) -> None:
        """Update one block in place: every array is (n,) in the weights' dtype, ``state`` is (v,)."""
        (v,), (s, _), (alpha, eps, step) = state, scratch, constants
        np.square(g, out=s)
        np.multiply(v, alpha, out=v)
        np.add(v, s, out=v)
        np.sqrt(v, out=s)
        np.add(s, eps, out=s)
        np.divide(g, s, out=s)
        np.multiply(s, step, out=s)
        np.subtract(w, s, out=w)
