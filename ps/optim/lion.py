"""Lion: the sign of a momentum."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MAX_BETA, MOST_RATE, number
from ps.optim.kernel import Kernel
from ps.xp import Array, HostArray, namespace

TINY = 2.0**-100
"""On the host, mixes smaller than this give less than a full step; a power of two, so that scaling is exact."""


@dataclass(frozen=True, slots=True)
class Lion:
    """Step by the sign of momentum and gradient mixed, then let the momentum follow the gradient.

    ``w -= lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * w)``, ``m = beta2 * m + (1 - beta2) * g``.
    Chen et al., Symbolic discovery of optimization algorithms, NeurIPS 2023. The state is ``m / (1 - beta2)``, a
    discounted sum; a sign does not change when its argument is divided by ``1 - beta1``. Both save passes over
    memory.
    """

    coupled: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    slots: ClassVar[tuple[str, ...]] = ("m",)
    kernel: ClassVar[Kernel] = Kernel(
        "lion",
        ("m",),
        ("lr", "beta2", "share", "pull"),
        "T c = share * m + g; w -= lr * (T)((c > 0) - (c < 0)) + pull * w; m = beta2 * m + g;",
        native=True,
    )

    lr: float = number(1e-4, at_least=0, at_most=MOST_RATE)
    beta1: float = number(0.9, at_least=0, below=1)
    beta2: float = number(0.99, at_least=0, at_most=MAX_BETA)
    weight_decay: float = number(0.0, at_least=0)

    def init(self, weights: Array) -> dict[str, Array]:
        """Return m = 0."""
        return {"m": namespace(weights).zeros_like(weights)}

    def constants(self, lr: float, t: int, dtype: np.dtype[np.floating]) -> tuple[float, ...]:
        """Return the learning rate, beta2, the momentum's share in the mix, and the weights' that is taken off.

        The momentum's is relative to the gradient's.
        """
        beta2 = float(dtype.type(self.beta2))
        return lr, beta2, self.beta1 * (1 - beta2) / (1 - self.beta1), lr * self.weight_decay

    def update(
        self,
        w: HostArray,
        g: HostArray,
        state: tuple[HostArray, ...],
        scratch: tuple[HostArray, HostArray],
        constants: tuple[float, ...],
    ) -> None:
        """Update one block in place: every array is (n,) in the weights' dtype, ``state`` is (m,)."""
        (m,), (s, c), (lr, beta2, share, pull) = state, scratch, constants
        np.multiply(m, share, out=s)
        np.add(s, g, out=s)
        np.clip(s, -TINY, TINY, out=s)  # lr * sign(s) in the end; np.sign alone takes four times as long
        np.multiply(s, lr / TINY, out=s)
        if pull:
            np.multiply(w, pull, out=c)
            np.add(s, c, out=s)
        np.subtract(w, s, out=w)
        np.multiply(m, beta2, out=m)
        np.add(m, g, out=m)
