"""Adam, and the update that AdamW shares with it."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MAX_BETA, MOST_RATE, number
from ps.optim.kernel import Kernel
from ps.xp import Array, HostArray, namespace

KERNEL = Kernel(
    "adam",
    ("m", "v"),
    ("beta1", "beta2", "eps", "step"),
    "m = beta1 * m + g; v = beta2 * v + g * g; w -= step * m / (sqrt(v) + eps);",
    native=True,
)


def adam_constants(
    beta1: float, beta2: float, eps: float, lr: float, t: int, dtype: np.dtype[np.floating]
) -> tuple[float, ...]:
    """Return the betas, and eps and lr in the scale of the discounted sums, bias correction included.

    The betas are those the arrays' type can hold: in float32, 0.999 is off by 1e-8 but 1 - 0.999 by 1e-5, so
    that correcting for another beta than the one that is multiplied with would bias every step.
    """
    beta1, beta2 = float(dtype.type(beta1)), float(dtype.type(beta2))
    mean = (1 - beta1) / (1 - beta1**t)
    root = math.sqrt((1 - beta2) / (1 - beta2**t))
    return beta1, beta2, eps / root, lr * mean / root


def adam_step(g: HostArray, m: HostArray, v: HostArray, s: HostArray, constants: tuple[float, ...]) -> None:
    """Update the state in place and write into ``s`` what is to be taken off the weights.

    Nine passes, two fewer than with running means for state.
    """
    beta1, beta2, eps, step = constants
    np.multiply(m, beta1, out=m)
    np.add(m, g, out=m)
    np.square(g, out=s)
    np.multiply(v, beta2, out=v)
    np.add(v, s, out=v)
    np.sqrt(v, out=s)
    np.add(s, eps, out=s)
    np.divide(m, s, out=s)
    np.multiply(s, step, out=s)


@dataclass(frozen=True, slots=True)
class Adam:
    """Step along the running mean of gradients, divided by the root of the running mean of their squares.

    ``m = beta1 * m + (1 - beta1) * g``, ``v = beta2 * v + (1 - beta2) * g²``,
    ``w -= lr * m / (1 - beta1^t) / (√(v / (1 - beta2^t)) + eps)``.
    Kingma and Ba, Adam: a method for stochastic optimization, ICLR 2015. The state is ``m / (1 - beta1)`` and
    ``v / (1 - beta2)``, discounted sums, which saves two passes over memory. Weight decay is added to the
    gradient. What federated learning calls FedAdam has no bias correction: that is ``ServerAdam``.
    """

    coupled: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    slots: ClassVar[tuple[str, ...]] = ("m", "v")
    kernel: ClassVar[Kernel] = KERNEL

    lr: float = number(1e-3, at_least=0, at_most=MOST_RATE)
    beta1: float = number(0.9, at_least=0, at_most=MAX_BETA)
    beta2: float = number(0.999, at_least=0, at_most=MAX_BETA)
    eps: float = number(1e-8, at_least=1e-30)
    weight_decay: float = number(0.0, at_least=0)

    def init(self, weights: Array) -> dict[str, Array]:
        """Return m = v = 0."""
        return {slot: namespace(weights).zeros_like(weights) for slot in self.slots}

    def constants(self, lr: float, t: int, dtype: np.dtype[np.floating]) -> tuple[float, ...]:
        """Return the betas, eps and step size of update ``t``."""
        return adam_constants(self.beta1, self.beta2, self.eps, lr, t, dtype)

    def update(
        self,
        w: HostArray,
        g: HostArray,
        state: tuple[HostArray, ...],
        scratch: tuple[HostArray, HostArray],
        constants: tuple[float, ...],
    ) -> None:
        """Update one block in place: every array is (n,) in the weights' dtype, ``state`` is (m, v)."""
        (m, v), (s, _) = state, scratch
        adam_step(g, m, v, s, constants)
        np.subtract(w, s, out=w)
