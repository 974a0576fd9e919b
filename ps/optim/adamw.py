"""AdamW: Adam with weight decay that bypasses the running means."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MAX_BETA, MOST_RATE, number
from ps.optim.adam import adam_constants, adam_step
from ps.optim.kernel import Kernel
from ps.xp import Array, HostArray, namespace


@dataclass(frozen=True, slots=True)
class AdamW:
    """Step as Adam does, and shrink the weights: ``w -= step + lr * weight_decay * w``.

    Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019. The state is Adam's.
    """

    coupled: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    slots: ClassVar[tuple[str, ...]] = ("m", "v")
    kernel: ClassVar[Kernel] = Kernel(
        "adamw",
        ("m", "v"),
        ("beta1", "beta2", "eps", "step", "pull"),
        "m = beta1 * m + g; v = beta2 * v + g * g; w -= step * m / (sqrt(v) + eps) + pull * w;",
        native=True,
    )

    lr: float = number(1e-3, at_least=0, at_most=MOST_RATE)
    beta1: float = number(0.9, at_least=0, at_most=MAX_BETA)
    beta2: float = number(0.999, at_least=0, at_most=MAX_BETA)
    eps: float = number(1e-8, at_least=1e-30)
    weight_decay: float = number(1e-2, at_least=0)

    def init(self, weights: Array) -> dict[str, Array]:
        """Return m = v = 0."""
        return {slot: namespace(weights).zeros_like(weights) for slot in self.slots}

    def constants(self, lr: float, t: int, dtype: np.dtype[np.floating]) -> tuple[float, ...]:
        """Return the betas, eps and step size of update ``t``, and the share of the weights that is taken off."""
        return *adam_constants(self.beta1, self.beta2, self.eps, lr, t, dtype), lr * self.weight_decay

    def update(
        self,
        w: HostArray,
        g: HostArray,
        state: tuple[HostArray, ...],
        scratch: tuple[HostArray, HostArray],
        constants: tuple[float, ...],
    ) -> None:
        """Update one block in place: every array is (n,) in the weights' dtype, ``state`` is (m, v)."""
        (m, v), (s, c), (*adam, pull) = state, scratch, constants
        adam_step(g, m, v, s, tuple(adam))
        if pull:
            np.multiply(w, pull, out=c)
            np.add(s, c, out=s)
        np.subtract(w, s, out=w)
