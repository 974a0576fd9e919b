"""FedAdagrad: Adagrad over federated deltas, with momentum."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MAX_BETA, MOST_RATE, number
from ps.optim.kernel import Kernel
from ps.xp import Array, HostArray, namespace


@dataclass(frozen=True, slots=True)
class ServerAdagrad:
    """Step along a running mean, divided by the root of the sum of squares, which begins at tau².

    ``m = beta1 * m + (1 - beta1) * g``, ``v += g²``, ``w -= lr * m / (√v + tau)``; m is 0 and v is tau² at first.
    Reddi et al., Adaptive federated optimization, ICLR 2021, algorithm 2, whose experiments have beta1 = 0 here. The
    gradient is the mean of the clients' deltas, negated. The state is ``m / (1 - beta1)``, a discounted sum, and v.
    Weight decay is added to the gradient.
    """

    coupled: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    slots: ClassVar[tuple[str, ...]] = ("m", "v")
    kernel: ClassVar[Kernel] = Kernel(
        "fedadagrad",
        ("m", "v"),
        ("beta1", "tau", "step"),
        "m = beta1 * m + g; v += g * g; w -= step * m / (sqrt(v) + tau);",
        native=True,
    )

    lr: float = number(0.1, at_least=0, at_most=MOST_RATE)
    beta1: float = number(0.0, at_least=0, at_most=MAX_BETA)
    tau: float = number(1e-3, at_least=1e-30)
    weight_decay: float = number(0.0, at_least=0)

    def init(self, weights: Array) -> dict[str, Array]:
        """Return m = 0 and v filled with tau²."""
        xp = namespace(weights)
        return {"m": xp.zeros_like(weights), "v": xp.full_like(weights, self.tau**2)}

    def constants(self, lr: float, t: int, dtype: np.dtype[np.floating]) -> tuple[float, ...]:
        """Return beta1 as the arrays' type rounds it, tau, and lr in the scale of the discounted sum."""
        beta1 = float(dtype.type(self.beta1))
        return beta1, self.tau, lr * (1 - beta1)

    def update(
        self,
        w: HostArray,
        g: HostArray,
        state: tuple[HostArray, ...],
        scratch: tuple[HostArray, HostArray],
        constants: tuple[float, ...],
    ) -> None:
        """Update one block in place: every array is (n,) in the weights' dtype, ``state`` is (m, v)."""
        (m, v), (s, _), (beta1, tau, step) = state, scratch, constants
        np.multiply(m, beta1, out=m)
        np.add(m, g, out=m)
        np.square(g, out=s)
        np.add(v, s, out=v)
        np.sqrt(v, out=s)
        np.add(s, tau, out=s)
        np.divide(m, s, out=s)
        np.multiply(s, step, out=s)
        np.subtract(w, s, out=w)
