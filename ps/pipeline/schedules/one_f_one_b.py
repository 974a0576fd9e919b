"""1F1B: one forward pass, one backward pass, as soon as the first backward pass can be done.

Narayanan et al., PipeDream, 2019 (arXiv:1806.03377); Memory-Efficient Pipeline-Parallel DNN Training, 2021
(arXiv:2006.09503). More forward passes ahead, as in Alpa: Zhuang et al., On Optimizing the Communication of Model
Parallelism, 2022 (arXiv:2211.05322).
"""

from __future__ import annotations

from ps.dataclass import dataclass
from ps.number import number
from ps.pipeline.action import BACKWARD, FORWARD, Action


@dataclass(frozen=True, slots=True)
class OneForwardOneBackward:
    """The bubble of fill-drain, but stage s of p holds at most p - s micro-batches, all but the last ``ahead`` more.

    Each transfer makes a step with ``ahead`` = 0 longer by twice the time that it takes, for each micro-batch. With one
    micro-batch more under way it is on its way while another is computed.
    """

    ahead: int = number(0, at_least=0, at_most=1000, whole=True)
    """Micro-batches that are under way beyond those without which stages would be idle."""

    def workers(self, stages: int) -> int:
        return stages

    def actions(self, stages: int, microbatches: int, worker: int) -> list[Action]:
        more = self.ahead if worker < stages - 1 else 0
        ahead = min(stages - worker - 1 + more, microbatches)
        order = [Action(FORWARD, worker, k) for k in range(ahead)]
        for k in range(microbatches):
            if k + ahead < microbatches:
                order.append(Action(FORWARD, worker, k + ahead))
            order.append(Action(BACKWARD, worker, k))
        return order
