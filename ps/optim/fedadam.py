"""FedAdam: Adam over federated deltas, without bias correction."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MAX_BETA, MOST_RATE, number
from ps.optim.adam import KERNEL, adam_step
from ps.optim.kernel import Kernel
from ps.xp import Array, HostArray, namespace


@dataclass(frozen=True, slots=True)
class ServerAdam:
    """Step along a running mean, divided by the root of the running mean of squares, which begins at tau².

    ``m = beta1 * m + (1 - beta1) * g``, ``v = beta2 * v + (1 - beta2) * g²``, ``w -= lr * m / (√v + tau)``; m is 0
    and v is tau² at first, and nothing is corrected for that. Reddi et al., Adaptive federated optimization, ICLR
    2021, algorithm 2. The gradient is the mean of the clients' deltas, negated. The state is ``m / (1 - beta1)`` and
    ``v / (1 - beta2)``, discounted sums, as Adam's. Weight decay is added to the gradient.
    """

    coupled: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    slots: ClassVar[tuple[str, ...]] = ("m", "v")
    kernel: ClassVar[Kernel] = KERNEL

    lr: float = number(0.01, at_least=0, at_most=MOST_RATE)
    beta1: float = number(0.9, at_least=0, at_most=MAX_BETA)
    beta2: float = number(0.99, at_least=0, at_most=MAX_BETA)
    tau: float = number(1e-3, at_least=1e-30)
    weight_decay: float = number(0.0, at_least=0)

    def init(self, weights: Array) -> dict[str, Array]:
        """Return m = 0 and v filled with tau², in the scale of the discounted sum."""
        xp = namespace(weights)
        beta2 = float(weights.dtype.type(self.beta2))
        return {"m": xp.zeros_like(weights), "v": xp.full_like(weights, self.tau**2 / (1 - beta2))}

    def constants(self, lr: float, t: int, dtype: np.dtype[np.floating]) -> tuple[float, ...]:
        """Return the betas as the arrays' type rounds them, and tau and lr in the scale of the discounted sums."""
        beta1, beta2 = float(dtype.type(self.beta1)), float(dtype.type(self.beta2))
        root = math.sqrt(1 - beta2)
        return beta1, beta2, self.tau / root, lr * (1 - beta1) / root

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
