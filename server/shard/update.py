"""Updater: from contributions to new weights. Combines, clips and applies the optimizer, block by block."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from ps.aggregators.gradients import combination
from ps.compress import Decoded
from ps.config.job import JobConfig
from ps.optim import Reader, Workspace, apply, square_sum
from ps.protocol.messages.rate import UNSAID, Rate
from ps.server.shard.chunk import ChunkState, Contribution
from ps.threads import ThreadTeam, cores, threads_for
from ps.xp import HostArray

log = logging.getLogger("ps.server")


class Updater:
    """Applies contributions to chunks as the job's configuration says."""

    def __init__(self, job: JobConfig, threads: int = 0) -> None:
        """``threads`` is how many share out the blocks of one chunk; 0 takes a share of this host's cores."""
        self.optimizer = job.specs.optimizer.build()
        self._schedule = job.specs.schedule.build()
        self._aggregator = job.specs.aggregator.build()
        self._least = self._aggregator.least if job.lockstep else 1
        self._short = False
        """Whether the last step had too few gradients for the aggregator."""
        self._named = job.specs.aggregator
        self._clip_value = job.clip_value
        self._scale_by_staleness = job.staleness_scaling and job.heeds("staleness_scaling")
        self._team = ThreadTeam(threads_for(threads, cores(), job.servers))
        self._workspace = Workspace()

    def apply(
        self, chunk: ChunkState, contributions: Sequence[Contribution], staleness: int, rate: Rate = UNSAID
    ) -> None:
        """Update a chunk's weights in place with the combination of the contributions.

        ``staleness`` is that of the contribution (async), ``rate`` what workers said of the learning rate; those that
        skipped the step do not count, and when too few are left for the aggregator the weights stay as they are.
        """
        given = self._given(contributions)
        if not given:
            return
        lr = self._lr(given[0].clock, rate)
        if self._scale_by_staleness:
            lr /= max(1, staleness)
        gradient, scale = self._combination(given)
        if len(given) == 1:
            scale *= given[0].scale
        self._step(chunk, gradient, lr, scale)

    def combine(self, chunk: ChunkState, contributions: Sequence[Contribution]) -> tuple[HostArray | None, float]:
        """First phase of clipping by global norm: return the combined gradient and its squared L2 norm.

        There is no gradient when all skipped the step, or too few did not. A norm that is no number is infinite.
        """
        given = self._given(contributions)
        if not given:
            return None, 0.0
        gradient, factor = self._combination(given)
        combined = np.empty_like(chunk.weights)

        def keep(lo: int, hi: int, out: HostArray) -> HostArray:
            home = combined[lo:hi]
            part = gradient(lo, hi, home) if callable(gradient) else gradient[lo:hi]
            return np.multiply(part, factor, out=home)

        squares = square_sum(keep, combined.size, combined.dtype, team=self._team)
        return combined, math.inf if math.isnan(squares) else squares

    def apply_combined(
        self, chunk: ChunkState, gradient: HostArray, clock: int, scale: float, rate: Rate = UNSAID
    ) -> None:
        """Second phase of clipping by global norm: apply a clock's combined gradient times ``scale``."""
        self._step(chunk, gradient, self._lr(clock, rate), scale)

    def _lr(self, clock: int, rate: Rate) -> float:
        number, _, base = rate
        return (base if number else self.optimizer.lr) * self._schedule(clock)

    def _given(self, contributions: Sequence[Contribution]) -> list[Contribution]:
        """Return those with a gradient, or none when they are too few for the aggregator to tell good from bad."""
        given = [c for c in contributions if c.gradient is not None]
        short = 0 < len(given) < self._least
        if short and not self._short:
            log.warning(
                "clock %d has %d gradients, and aggregator %s needs %d: steps are skipped until there are as many",
                given[0].clock,
                len(given),
                self._named,
                self._least,
            )
        self._short = short
        return [] if short else given

    def _combination(self, given: Sequence[Contribution]) -> tuple[HostArray | Reader, float]:
        """Return the combined gradient, or what reads it, and the factor it has yet to be multiplied with."""
        if len(given) == 1 and isinstance(given[0].gradient, Decoded):
            return given[0].gradient.read, 1.0
        parts = [_dense(c.gradient) for c in given if c.gradient is not None]
        if len(parts) == 1:
            return parts[0], 1.0
        return combination(self._aggregator, parts, [c.examples for c in given], self._workspace)

    def _step(self, chunk: ChunkState, gradient: HostArray | Reader, lr: float, scale: float) -> None:
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
            workspace=self._workspace,
            team=self._team,
        )


def _dense(gradient: HostArray | Decoded) -> HostArray:
    if not isinstance(gradient, Decoded):
        return gradient
    out = np.empty(gradient.size, gradient.dtype)
    gradient.write(out)
    return out
