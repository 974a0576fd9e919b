"""Zero bubble (ZB-H1): the input's part of a backward pass goes first, and the weights' part fills what was idle.

Qi et al., Zero Bubble Pipeline Parallelism, 2023 (arXiv:2401.10241).
"""

from __future__ import annotations

from ps.dataclass import dataclass
from ps.number import number
from ps.pipeline.action import FORWARD, INPUT, WEIGHTS, Action
from ps.pipeline.schedules.one_f_one_b import OneForwardOneBackward


@dataclass(frozen=True, slots=True)
class ZeroBubble:
    """A third of the bubble of 1F1B where the three parts take equally long, and as many micro-batches held.

    Stage s puts off the weights' parts of s micro-batches.
    """

    ahead: int = number(0, at_least=0, at_most=1000, whole=True)
    """As that of 1F1B."""

    def workers(self, stages: int) -> int:
        return stages

    def actions(self, stages: int, microbatches: int, worker: int) -> list[Action]:
        order = []
        for action in OneForwardOneBackward(self.ahead).actions(stages, microbatches, worker):
            k = action.microbatch
            if action.kind == FORWARD:
                order.append(action)
                continue
            order.append(Action(INPUT, worker, k))
            if k >= worker:
                order.append(Action(WEIGHTS, worker, k - worker))
        return order + [Action(WEIGHTS, worker, k) for k in range(max(0, microbatches - worker), microbatches)]
