"""LocalStep: one local step, the same for a client of a real job and for many simulated ones at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ps.algorithms.algorithm import Algorithm
from ps.dataclass import dataclass
from ps.optim import Optimizer, apply, clip_scale, square_sum
from ps.xp import Array


@dataclass(frozen=True, slots=True)
class StepArrays:
    """What a step changes of one dtype and group: arrays of one shape; only ``anchor`` and ``control`` may broadcast.

    ``weights`` and the optimizer's ``state`` are updated in place, ``gradient`` is used up. ``lr`` is this update's
    rate and ``t`` its number, from 1. ``anchor`` is what the round began with; ``control`` and ``own`` are the server's
    and the client's control variates, None without them. ``optimizer`` is the group's, if it has one of its own.
    """

    weights: Array
    gradient: Array
    state: Mapping[str, Array]
    lr: float
    t: int
    anchor: Array
    control: Array | None = None
    own: Array | None = None
    optimizer: Optimizer | None = None


@dataclass(frozen=True, slots=True)
class LocalStep:
    """How weights change with a step: the local optimizer, and what the algorithm adds to its gradients."""

    optimizer: Optimizer
    algorithm: Algorithm
    clip_value: float | None = None
    clip_norm: float | None = None

    def step(self, parts: Sequence[StepArrays]) -> None:
        """Correct the gradient, clip it, and apply it.

        ``parts`` are all that one client trains: the norm is that of its whole corrected gradient. Without
        ``clip_norm`` a part may hold several clients, stacked.
        """
        for part in parts:
            if self.algorithm.correct is not None:
                self.algorithm.correct(part.gradient, part.weights, part.anchor, part.control, part.own)
        scale = 1.0
        if self.clip_norm is not None:
            scale = clip_scale(sum(square_sum(part.gradient.reshape(-1)) for part in parts), self.clip_norm)
        for part in parts:
            apply(
                part.optimizer or self.optimizer,
                part.weights.reshape(-1),
                part.gradient.reshape(-1),
                {name: slot.reshape(-1) for name, slot in part.state.items()},
                lr=part.lr,
                t=part.t,
                clip_value=self.clip_value,
                scale=scale,
            )
