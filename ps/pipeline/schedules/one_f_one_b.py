"""1F1B: one forward pass, one backward pass, as soon as the first backward pass can be done.

Narayanan et al., PipeDream, 2019 (arXiv:1806.03377); Memory-Efficient Pipeline-Parallel DNN Training, 2021
(arXiv:2006.09503).
"""

from __future__ import annotations

from ps.dataclass import dataclass
from ps.pipeline.action import BACKWARD, FORWARD, Action


@dataclass(frozen=True, slots=True)
class OneForwardOneBackward:
    """The bubble of fill-drain, but stage s of p holds at most p - s micro-batches."""

    def workers(self, stages: int) -> int:
        return stages

    def actions(self, stages: int, microbatches: int, worker: int) -> list[Action]:
        ahead = min(stages - worker - 1, microbatches)
        order = [Action(FORWARD, worker, k) for k in range(ahead)]
        for k in range(microbatches):
            if k + ahead < microbatches:
                order.append(Action(FORWARD, worker, k + ahead))
            order.append(Action(BACKWARD, worker, k))
        return order
