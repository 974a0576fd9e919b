"""DiLoCo: few, steady clients with many AdamW steps a round, and Nesterov's momentum between rounds."""

from __future__ import annotations

from ps.algorithms.algorithm import Algorithm
from ps.dataclass import dataclass
from ps.number import MOST_RATE, number


@dataclass(frozen=True, slots=True)
class DiLoCo:
    """Every client trains with its own AdamW, never reset; the mean delta is the outer gradient, negated.

    ``delta = mean_i(w_i - w)``, ``b = momentum * b + delta``, ``w += lr * (delta + momentum * b)``. Douillard et al.,
    DiLoCo: distributed low-communication training of language models, 2023. The numbers are those of the outer step.
    The inner AdamW has the paper's weight decay, and, for models smaller than its transformers, 1e-3 instead of 4e-4.
    """

    lr: float = number(0.7, at_least=0, at_most=MOST_RATE)
    momentum: float = number(0.9, at_least=0, below=1)

    def build(self) -> Algorithm:
        """Return the record."""
        return Algorithm(
            server=f"nesterov:lr={self.lr!r},momentum={self.momentum!r}",
            local="adamw:lr=0.001,weight_decay=0.1",
            aggregator="mean",
            everyone=True,
            keeps_optimizer=True,
        )
