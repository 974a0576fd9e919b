"""Updater: from contributions to new weights. Combines, clips and applies the optimizer, block by block."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Protocol, TypeAlias, cast

import numpy as np

from ps.aggregators.gradients import combination
from ps.compress import Decoded
from ps.config.job import JobConfig
from ps.cores import cores, threads_for
from ps.half import Widened, is_half, worked_in
from ps.optim import Optimizer, Reader, WeightedSum, Workspace, apply, square_sum
from ps.optim.group import optimizer_of, with_decay
from ps.protocol.layout import Chunk
from ps.protocol.messages.rate import UNSAID, Rate
from ps.server.shard.chunk import ChunkState, Combined, Contribution
from ps.threads import ThreadTeam
from ps.xp import HostArray

MOST_COUNTED = float(1 << 62)
"""Examples that a schedule counts, at most."""

log = logging.getLogger("ps.server")

Tensors: TypeAlias = "frozenset[int]"
"""By their numbers in a chunk."""


class ChangeRecorder(Protocol):
    """Notes how weights come about, for whoever has a copy of them."""

    def step(
        self,
        chunk: ChunkState,
        gradient: HostArray | Reader,
        clock: int,
        rate: Rate,
        scale: float,
        absent: Tensors,
        stale: int,
    ) -> HostArray | Reader:
        """A gradient is about to be applied; return the one to apply, which has the same values."""
        ...

    def combined(self, chunk: ChunkState, gradient: HostArray) -> None:
        """This gradient waits for its scale."""
        ...

    def scaled(self, chunk: ChunkState, scale: float) -> None:
        """The one that waited is about to be applied."""
        ...


class Updater:
    """Applies contributions to chunks as the job's configuration says."""

    def __init__(self, job: JobConfig, threads: int = 0) -> None:
        """``threads`` is how many share out the blocks of one chunk; 0 takes a share of this host's cores."""
        self._spec = job.specs.optimizer
        self._optimizers: dict[str, Optimizer] = {}
        """By group of tensors."""
        self._schedule = job.specs.schedule.build()
        self._by_examples = job.schedule_unit == "examples"
        self._aggregator = job.specs.aggregator.build()
        self._least = self._aggregator.least if job.lockstep else 1
        self._short = False
        """Whether the last step had too few gradients for the aggregator."""
        self._named = job.specs.aggregator
        self._clip_value = job.clip_value
        self._scale_by_staleness = job.staleness_scaling and job.heeds("staleness_scaling")
        self._team = ThreadTeam(threads_for(threads, cores(), job.servers))
        self._workspace = Workspace()
        self.recorder: ChangeRecorder | None = None
        """Told of everything that changes weights."""

    def optimizer(self, chunk: Chunk) -> Optimizer:
        """Return what updates a chunk's tensors."""
        found = self._optimizers.get(chunk.group)
        if found is None:
            found = self._optimizers[chunk.group] = optimizer_of(self._spec, chunk.group)
        return found

    def apply(
        self, chunk: ChunkState, contributions: Sequence[Contribution], staleness: int, rate: Rate = UNSAID
    ) -> None:
        """Update a chunk's weights in place with the combination of the contributions.

        ``staleness`` is that of the contribution (async), ``rate`` what workers said of the learning rate; those that
        skipped the step do not count, and when too few are left for the aggregator, or the clock is vetoed, the weights
        stay as they are. Tensors of which nobody has a gradient do too, and their optimizer's state.
        """
        given = self._given(chunk, contributions)
        if not given:
            return
        gradient, scale = self._combination(given)
        if len(given) == 1:
            scale *= given[0].scale
        stale = max(1, staleness) if self._scale_by_staleness else 1
        about = given[0].clock, rate, scale, absent_from(given), stale
        if self.recorder is not None:
            gradient = self.recorder.step(chunk, gradient, *about)
        self.step(chunk, gradient, *about)

    def combine(self, chunk: ChunkState, contributions: Sequence[Contribution]) -> tuple[HostArray | None, float]:
        """First phase of clipping by global norm: return the combined gradient and its squared L2 norm.

        There is no gradient when all skipped the step, too few did not, or it is vetoed. A norm that is no number is
        infinite.
        """
        given = self._given(chunk, contributions)
        if not given:
            return None, 0.0
        gradient, factor = self._combination(given)
        combined = np.empty(chunk.chunk.size, worked_in(chunk.weights.dtype))

        def keep(lo: int, hi: int, out: HostArray) -> HostArray:
            home = combined[lo:hi]
            if isinstance(gradient, WeightedSum):
                gradient.write(lo, hi, home, factor)
                return home
            part = gradient(lo, hi, home) if callable(gradient) else gradient[lo:hi]
            return np.multiply(part, factor, out=home)

        squares = square_sum(keep, combined.size, combined.dtype, team=self._team)
        if self.recorder is not None:
            self.recorder.combined(chunk, combined)
        return combined, math.inf if math.isnan(squares) else squares

    def apply_combined(self, chunk: ChunkState, combined: Combined, scale: float) -> None:
        """Second phase of clipping by global norm: apply a clock's combined gradient times ``scale``."""
        if self.recorder is not None:
            self.recorder.scaled(chunk, scale)
        if combined.gradient is not None:
            self.step(chunk, combined.gradient, combined.clock, combined.rate, scale, combined.absent)

    def _given(self, chunk: ChunkState, contributions: Sequence[Contribution]) -> list[Contribution]:
        """Return those that count, or none when they are too few for the aggregator to tell good from bad."""
        if chunk.vetoed == chunk.version:
            return []
        given = [c for c in contributions if c.gradient is not None]
        if 0 < len(given) < len(contributions):
            given = [c for c in contributions if c.gradient is not None or c.examples]
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
        only = given[0].gradient if len(given) == 1 else None
        if isinstance(only, Decoded):
            return (only.read if only.half is None else WeightedSum([only.half], [1.0], self._workspace)), 1.0
        size, dtype = next((c.gradient.size, c.gradient.dtype) for c in given if c.gradient is not None)
        parts = [np.zeros(size, dtype) if c.gradient is None else self._dense(c.gradient) for c in given]
        if len(parts) == 1:
            return (WeightedSum(parts, [1.0], self._workspace) if is_half(dtype) else parts[0]), 1.0
        if is_half(dtype) and self._aggregator.kind == "weigh":
            parts = [Widened(part).whole() for part in parts]
        elif is_half(dtype) and self._aggregator.kind == "combine":
            parts = cast("list[HostArray]", list(map(Widened, parts)))
        return combination(self._aggregator, parts, [c.examples for c in given], self._workspace)

    def _dense(self, gradient: HostArray | Decoded) -> HostArray:
        """Return a gradient as an array, in half precision where that is all there is to it and it is only added."""
        if not isinstance(gradient, Decoded):
            return gradient
        half: HostArray | None = gradient.half
        if half is not None and self._aggregator.kind == "fold":
            return half
        out = np.empty(gradient.size, gradient.dtype)
        gradient.write(out)
        return out

    def step(
        self,
        chunk: ChunkState,
        gradient: HostArray | Reader,
        clock: int,
        rate: Rate,
        scale: float,
        absent: frozenset[int],
        stale: int = 1,
    ) -> None:
        """Apply a combined gradient of a clock, times ``scale``; ``stale``: what the learning rate is divided by."""
        number, _, base, decay = rate
        optimizer = self.optimizer(chunk.chunk)
        done = int(min(chunk.examples, MOST_COUNTED)) if self._by_examples else clock
        lr = (base if number else optimizer.lr) * self._schedule(done) / stale
        chunk.own()
        chunk.updates += 1
        for lo, hi, t in chunk.absences.update(chunk.updates, absent):
            apply(
                with_decay(optimizer, decay) if number else optimizer,
                (chunk.weights if chunk.master is None else chunk.master)[lo:hi],
                _part(gradient, lo, hi),
                {name: slot[lo:hi] for name, slot in chunk.slots.items()},
                lr=lr,
                t=t,
                clip_value=self._clip_value,
                scale=scale,
                half=None if chunk.master is None else chunk.weights[lo:hi],
                workspace=self._workspace,
                team=self._team,
            )


def absent_from(contributions: Sequence[Contribution]) -> frozenset[int]:
    """Return the tensors, by their number in the chunk, of which none of those that have a gradient has one."""
    found = [contribution.absent for contribution in contributions if contribution.gradient is not None]
    return frozenset.intersection(*found) if found else frozenset()


def _part(gradient: HostArray | Reader, first: int, last: int) -> HostArray | Reader:
    """Return elements of a gradient, or what reads them."""
    if not callable(gradient):
        return gradient[first:last]
    if isinstance(gradient, WeightedSum):
        return gradient.between(first, last)
    if not first:
        return gradient
    read = gradient
    return lambda lo, hi, out: read(first + lo, first + hi, out)
