"""Interleaved 1F1B: several stages on each worker, so that the pipeline is full sooner.

Narayanan et al., Efficient Large-Scale Language Model Training on GPU Clusters, 2021 (arXiv:2104.04473).
"""

from __future__ import annotations

from ps.dataclass import dataclass
from ps.number import number
from ps.pipeline.action import BACKWARD, FORWARD, Action


@dataclass(frozen=True, slots=True)
class Interleaved:
    """The bubble of 1F1B divided by the stages on each worker, for as many times the messages."""

    each: int = number(2, at_least=1, at_most=1000, whole=True)
    """Stages on each worker, at most."""

    def workers(self, stages: int) -> int:
        return -(-stages // self.each)

    def actions(self, stages: int, microbatches: int, worker: int) -> list[Action]:
        """As for micro-batches and stages that can be divided by the workers, without those that there are not."""
        workers = self.workers(stages)
        rounds = -(-stages // workers)
        groups = [range(k, k + workers) for k in range(0, microbatches, workers)]
        own = [worker + workers * each for each in range(rounds)]
        forward = [Action(FORWARD, stage, k) for group in groups for stage in own for k in group]
        backward = [Action(BACKWARD, stage, k) for group in groups for stage in reversed(own) for k in group]
        ahead = min(2 * (workers - worker - 1) + (rounds - 1) * workers, len(forward))
        order = forward[:ahead]
        for index, action in enumerate(backward):
            order += forward[index + ahead : index + ahead + 1]
            order.append(action)
        return [action for action in order if action.microbatch < microbatches and action.stage < stages]
