"""Algorithm: what one federated algorithm does otherwise than FedAvg, as data and a few functions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from ps.dataclass import dataclass
from ps.xp import Array

Correct: TypeAlias = Callable[[Array, Array, Array, Array | None, Array | None], None]
"""``correct(gradient, weights, anchor, control, own)`` changes a local step's gradient in place."""

Renew: TypeAlias = Callable[[Array, Array, Array, Array, float, float], Array]
"""``renew(own, control, anchor, weights, steps, lr)`` returns a client's new control variate, a new array."""

Scale: TypeAlias = Callable[[float, int], float]
"""``scale(steps, staleness)`` is what one delta is multiplied with before deltas are combined."""

Factor: TypeAlias = Callable[[Sequence[float], Sequence[float]], float]
"""``factor(weights, steps)`` of the contributions that count is what their combination is multiplied with."""


def unscaled(steps: float, staleness: int) -> float:
    """Return 1: every delta counts as it is."""
    return 1.0


def unchanged(weights: Sequence[float], steps: Sequence[float]) -> float:
    """Return 1: the combination is applied as it is."""
    return 1.0


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The choices of one federated algorithm; where nothing is said it is FedAvg.

    A round: every client that takes part begins with the server's weights (its anchor), does some local steps, and
    sends its delta, local weights less anchor. The server multiplies each delta with ``scale``, combines them as
    ``aggregator`` says, multiplies that with ``factor``, and gives it, negated, to the server optimizer for a
    gradient. All functions are pure and elementwise: they take flat vectors or tensors, of one client or of many
    clients stacked along the first axis beside an anchor and control that broadcast, float32 or float64, NumPy or
    CuPy; and they can be pickled. Steps are effective ones (``ps.algorithms.effective_steps``).
    """

    server: str = "sgd:lr=1.0"
    """The text of the server optimizer, unless the job names another."""

    local: str = ""
    """The text of the local optimizer, unless the job names another; "" for none of the algorithm's own."""

    aggregator: str = "weighted"
    """How deltas are combined: "weighted" by the clients' examples, or "mean"."""

    everyone: bool = False
    """Whether every client takes part in every round."""

    buffer: int = 0
    """Asynchronous if above 0: an update after so many contributions, whatever they began with."""

    keeps_optimizer: bool = False
    """Whether the state of a client's local optimizer lives on from round to round."""

    control: bool = False
    """Whether control variates travel beside the weights."""

    divides: bool = False
    """Whether deltas are divided by effective steps, so that they must be sums of gradients."""

    proximal: float = 0.0
    """``mu``, where ``correct`` adds ``mu * (w - anchor)``, the gradient of a term of the loss: who takes steps of his
    own can do that too."""

    correct: Correct | None = None
    """Changes the gradient before each local step. ``weights`` are the client's current ones; ``control`` and
    ``own`` the server's and the client's control variates, or None without ``control``."""

    renew: Renew | None = None
    """Makes the client's control variate after ``steps`` local steps at learning rate ``lr`` from ``anchor`` to
    ``weights``; what it differs by from ``own`` is sent."""

    scale: Scale = unscaled
    """Of the number of local steps and of updates since the weights that the client began with."""

    factor: Factor = unchanged
    """Of the aggregator's weights and the numbers of local steps, one each for every contribution."""


class Definition(Protocol):
    """What an algorithm's name stands for: a dataclass of its numbers."""

    def build(self) -> Algorithm:
        """Return the record."""
