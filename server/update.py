"""Updater: from contributions to new weights. Combines, clips and applies the optimizer, block by block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ps.config.job import JobConfig
from ps.optim import OptimizerSpec, Schedule, apply, square_sum
from ps.optim.rate import LearningRate
from ps.server.aggregate import REGISTRY
from ps.server.chunk import ChunkState, Contribution
from ps.xp import HostArray


class Updater:
    """Applies contributions to chunks as the job's configuration says."""

    def __init__(self, job: JobConfig) -> None:
        self.optimizer = OptimizerSpec.parse(job.optimizer).build()
        self.lr = LearningRate(self.optimizer.lr, Schedule.parse(job.schedule))
        self._aggregator = REGISTRY[job.aggregator]
        self._clip_value = job.clip_value
        self._scale_by_staleness = job.staleness_scaling and job.mode == "async"

    def apply(self, chunk: ChunkState, contributions: Sequence[Contribution], staleness: int) -> None:
        """Update a chunk's weights in place with the combination of the contributions.

        ``staleness`` is that of the contribution (async); workers that skipped the step do not count.
        """
        given = [c for c in contributions if c.gradient is not None]
        if not given:
            return
        parts = [c.gradient for c in given if c.gradient is not None]
        lr = self.lr(given[0].clock)
        if self._scale_by_staleness:
            lr /= max(1, staleness)
        if len(parts) == 1:
            self._step(chunk, parts[0], lr, given[0].scale)
            return
        examples = [c.examples for c in given]

        def read(lo: int, hi: int, out: HostArray) -> HostArray:
            self._aggregator.combine([part[lo:hi] for part in parts], examples, out)
            return out

        self._step(chunk, read, lr, 1.0)

    def combine(self, chunk: ChunkState, contributions: Sequence[Contribution]) -> tuple[HostArray | None, float]:
        """First phase of clipping by global norm: return the combined gradient and its squared L2 norm.

        There is no gradient when every worker skipped the step.
        """
        given = [c for c in contributions if c.gradient is not None]
        if not given:
            return None, 0.0
        parts = [c.gradient for c in given if c.gradient is not None]
        combined = np.empty_like(chunk.weights)
        self._aggregator.combine(parts, [c.examples for c in given], combined)
        return combined, square_sum(combined)

    def apply_combined(self, chunk: ChunkState, gradient: HostArray, clock: int, scale: float) -> None:
        """Second phase of clipping by global norm: apply a clock's combined gradient times ``scale``."""
        self._step(chunk, gradient, self.lr(clock), scale)

    def _step(self, chunk: ChunkState, gradient: object, lr: float, scale: float) -> None:
        chunk.own()
        chunk.updates += 1
        apply(
            self.optimizer,
            chunk.weights,
            gradient,
            chunk.slots,
            lr=lr,
            t=chunk.updates,
            clip_value=self._clip_value,
            scale=scale,
        )
