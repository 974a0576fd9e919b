"""One plug-in of each kind, as short as they get.

psctl run -w 3 --plugin ps.examples.plugins --optimizer signum:0.01 --aggregator vote --schedule triangle:100 train.py
psctl run -w 3 --plugin ps.examples.plugins --compress single --transport tcp train.py
psctl simulate --plugin ps.examples.plugins --algorithm halfway --partition stripes --dataset digits

A module of your own is named in the same way, without .py where it lies in the current directory. Each process that has
to know it names it: psctl run hands it to those that it starts, ``psctl server --plugin`` and so on do so on other
machines, and ``PS_PLUGINS`` for ``python train.py`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ps.algorithms import Algorithm
from ps.compress import Decoded
from ps.compress.frame import buffer, demand_bytes
from ps.optim.kernel import Kernel
from ps.plugins import aggregator, algorithm, codec, number, optimizer, partition, schedule


@optimizer("signum")
@dataclass(frozen=True, slots=True)
class Signum:
    """Step by a running mean's sign: ``m = beta m + (1 - beta) g``, ``w -= lr sign(m)`` (Bernstein et al. 2018)."""

    coupled: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    slots: ClassVar[tuple[str, ...]] = ("m",)
    kernel: ClassVar[Kernel] = Kernel(
        "signum", ("m",), ("lr", "beta", "rest"), "m = beta * m + rest * g; w -= lr * ((m > 0) - (m < 0));"
    )

    lr: float = number(0.01, at_least=0)
    beta: float = number(0.9, at_least=0, below=1)
    weight_decay: float = number(0.0, at_least=0)

    def init(self, weights: Any) -> dict[str, Any]:
        """Return the running mean, at first 0."""
        return {"m": weights * 0}

    def constants(self, lr: float, t: int, dtype: Any) -> tuple[float, ...]:
        """Return what an update needs, in the kernel's order."""
        return (lr, self.beta, 1 - self.beta)

    def update(self, w: Any, g: Any, state: Any, scratch: Any, constants: Any) -> None:
        """Update one block in place."""
        (m,), (s, _), (lr, beta, rest) = state, scratch, constants
        np.multiply(m, beta, out=m)
        np.multiply(g, rest, out=s)
        np.add(m, s, out=m)
        np.sign(m, out=s)
        np.multiply(s, lr, out=s)
        np.subtract(w, s, out=w)


@schedule("triangle")
@dataclass(frozen=True, slots=True)
class Triangle:
    """Up to 1 and down to 0 again, over and over, in ``period`` steps."""

    warmup: ClassVar[int] = 0

    period: int = number(100, at_least=2, whole=True)

    def factor(self, step: int) -> float:
        """Return the factor at a step, from 0."""
        return 1 - abs(1 - 2 * (step % self.period) / self.period)


@aggregator("vote")
@dataclass(frozen=True, slots=True)
class Vote:
    """The sign of most gradients' signs: who is wrong has one vote, however loud (Bernstein et al. 2019)."""

    kind: ClassVar[str] = "combine"
    least: ClassVar[int] = 1

    def models(self, contributions: int) -> int:
        """Return all of them."""
        return contributions

    def combine(self, parts: Any, out: Any) -> None:
        """Write the votes' outcome, each element for itself."""
        out[:] = np.sign(np.sum(np.sign(parts), axis=0))


@codec("single")
@dataclass(frozen=True, slots=True)
class Single:
    """Send float64 as float32."""

    slots: ClassVar[tuple[str, ...]] = ()
    momentum: ClassVar[float] = 0.0

    def init(self, values: Any) -> dict[str, Any]:
        """Return {}: nothing is kept from frame to frame."""
        return {}

    def max_bytes(self, size: int, dtype: Any) -> int:
        """Return the length of every frame."""
        return 4 * size

    def encode(self, values: Any, key: Any, state: Any, out: Any = None) -> Any:
        """Return the rounded values' bytes."""
        frame = buffer(values, 4 * values.size, out)
        frame.view(np.float32)[:] = values
        return frame

    def open(self, frame: Any, size: int, dtype: Any, key: Any, *, trusted: bool = False) -> Decoded:
        """Return what a frame says; BadMessage when it is none."""
        demand_bytes(frame, 4 * size)
        values = frame.view(np.float32)

        def read(lo: int, hi: int, out: Any) -> Any:
            out[:] = values[lo:hi]
            return out

        return Decoded(size, np.dtype(dtype), read)


@algorithm("halfway")
@dataclass(frozen=True, slots=True)
class Halfway:
    """FedAvg that goes a part of the way to the clients' mean."""

    lr: float = number(0.5, at_least=0)

    def build(self) -> Algorithm:
        """Return the record."""
        return Algorithm(server=f"sgd:lr={self.lr!r}")


@partition("stripes")
@dataclass(frozen=True, slots=True)
class Stripes:
    """Every so-manieth example in its order; nothing is left to chance."""

    by_label: ClassVar[bool] = False
    divides: ClassVar[bool] = True

    def divide(self, classes: Any, clients: int, rng: Any) -> tuple[Any, ...]:
        """Return each client's examples."""
        return tuple(np.arange(client, len(classes), clients) for client in range(clients))
