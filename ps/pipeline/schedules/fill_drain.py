"""Fill-drain: all forward passes, then all backward passes. Simple; holds all micro-batches at once.

Huang et al., GPipe, 2018 (arXiv:1811.06965).
"""

from __future__ import annotations

from ps.dataclass import dataclass
from ps.pipeline.action import BACKWARD, FORWARD, Action


@dataclass(frozen=True, slots=True)
class FillDrain:
    """A bubble of (p - 1) / (m + p - 1) of the time, with p stages and m micro-batches."""

    def workers(self, stages: int) -> int:
        return stages

    def actions(self, stages: int, microbatches: int, worker: int) -> list[Action]:
        return [Action(kind, worker, k) for kind in (FORWARD, BACKWARD) for k in range(microbatches)]
