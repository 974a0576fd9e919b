"""FTRL-Proximal: follow the regularized leader; weights that carry no signal become exactly zero."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MOST_RATE, number
from ps.optim.kernel import Kernel
from ps.xp import Array, HostArray, namespace


@dataclass(frozen=True, slots=True)
class FTRL:
    """Solve, for each weight, the linearized past with a proximal term and L1 and L2 penalties.

    ``z += g - (√(n + g²) - √n) / lr * w``, ``n += g²``,
    ``w = 0 if |z| <= l1 else -(z - sign(z) * l1) / ((beta + √n) / lr + l2)``.
    McMahan et al., Ad click prediction: a view from the trenches, KDD 2013, algorithm 1. The state is ``z * lr``
    and ``n``. z begins where the equation yields the initial weights, so that a gradient of zero does not move
    them. A schedule scales what a gradient adds to z; the penalties keep the base learning rate, or else a
    warm-up would shrink the weights by itself.
    """

    coupled: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    weight_decay: ClassVar[float] = 0.0
    slots: ClassVar[tuple[str, ...]] = ("z", "squares")
    kernel: ClassVar[Kernel] = Kernel(
        "ftrl",
        ("z", "squares"),
        ("lr", "l1", "floor"),
        """
        T before = sqrt(squares);
        squares += g * g;
        T after = sqrt(squares);
        z += lr * g - (after - before) * w;
        w = ((z > l1 ? l1 : (z < -l1 ? -l1 : z)) - z) / (after + floor);
        """,
        native=True,
    )

    lr: float = number(0.1, above=0, at_most=MOST_RATE)
    beta: float = number(1.0, at_least=1e-12)
    l1: float = number(0.0, at_least=0)
    l2: float = number(0.0, at_least=0)

    def init(self, weights: Array) -> dict[str, Array]:
        """Return n = 0, and z such that the weights are what they are."""
        xp = namespace(weights)
        z = weights * -(self.beta + self.lr * self.l2) - xp.sign(weights) * (self.lr * self.l1)
        return {"z": z, "squares": xp.zeros_like(weights)}

    def constants(self, lr: float, t: int, dtype: np.dtype[np.floating]) -> tuple[float, ...]:
        """Return the learning rate, and l1 and the constant part of the denominator in the scale of ``z * lr``."""
        return lr, self.lr * self.l1, self.beta + self.lr * self.l2

    def update(
        self,
        w: HostArray,
        g: HostArray,
        state: tuple[HostArray, ...],
        scratch: tuple[HostArray, HostArray],
        constants: tuple[float, ...],
    ) -> None:
        """Update one block in place: every array is (n,) in the weights' dtype, ``state`` is (z, squares)."""
        (z, squares), (before, after), (lr, l1, floor) = state, scratch, constants
        np.sqrt(squares, out=before)
        np.square(g, out=after)
        np.add(squares, after, out=squares)
        np.sqrt(squares, out=after)
        np.subtract(before, after, out=before)
        np.multiply(before, w, out=before)
        np.add(z, before, out=z)
        np.multiply(g, lr, out=before)
        np.add(z, before, out=z)
        np.clip(z, -l1, l1, out=w)
        np.subtract(w, z, out=w)
        np.add(after, floor, out=after)
        np.divide(w, after, out=w)
