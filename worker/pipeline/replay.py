"""Replay: what a worker remembers of the step under way, so that it may be computed again and counts once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from ps.errors import UsageError
from ps.worker.pipeline.stage_buffers import StageBuffers
from ps.worker.vote import StepVote
from ps.xp import Array, HostArray


class StepHeld(Exception):
    """The servers hold all gradients of the step that is under way: it counts."""


class VotedSteps(Protocol):
    """What is needed of ``ps.KV``."""

    @property
    def clock(self) -> int: ...

    def offer(self, grads: Mapping[str, Any] | None, examples: float | None, *, partial: bool = False) -> bool: ...

    def step(self, grads: Any = None, **metrics: Any) -> None: ...


class Replay:
    """One worker's steps in a job whose workers may be replaced."""

    def __init__(self, kv: VotedSteps, vote: StepVote, buffers: StageBuffers) -> None:
        self._kv, self._vote, self._buffers = kv, vote, buffers
        self.again = False
        """Whether servers may hold gradients of the next step already, of this worker or of the one before it."""
        self.voting = False
        """Whether this worker waits for the vote."""
        self.done_before = False
        """Whether the step that the script comes to next is done already."""
        self._offered = -1
        """The last step whose gradients this worker has given to be voted on."""
        self._loss = math.nan
        """Its mean loss."""
        self._kept = 0
        """The clock after which buffers were kept last; those of clock 0 anybody can make."""
        self._batch = -1, 0
        """The last step that was begun, and what tells its batch from others."""

    def succeed(self, clock: int) -> None:
        """Have the buffers that another worker had after so many steps. Raises BadMessage where they are gone."""
        if self._buffers and clock:
            self._buffers.write(self._vote.recall(clock))

    def begin_again(self) -> None:
        """The next step, or the one under way, is computed from its beginning."""
        self.again = True
        self._vote.ask()

    @property
    def held(self) -> bool:
        """Whether the servers are known to hold all gradients of the step under way."""
        return self._vote.held

    def look(self) -> None:
        """Look whether a step that is computed again needs no more of that. Raises StepHeld."""
        if self.again and self._vote.held:
            raise StepHeld

    def begin(self, step: int, batch: int, whose: int) -> None:
        """A step begins, perhaps not for the first time; ``batch`` tells its batch, worker ``whose``'s, from others.

        Raises UsageError where it had another one before.
        """
        before, self._batch = self._batch, (step, batch)
        if before[0] == step and before[1] != batch:
            raise UsageError(
                f"worker {whose}, which took the place of one that is gone, has another batch for step {step} than "
                f"that one had: data that are drawn or changed anew each time cannot be taken again. Have them "
                f"depend on kv.job.seed and kv.clock alone"
            )
        self._buffers.begin(step)
        if self._kept != step and self._buffers:
            self._keep(step, self._buffers.packed())

    def _keep(self, clock: int, values: HostArray) -> None:
        self._vote.keep(clock, values)
        self._kept = clock

    def has_offered(self, step: int) -> bool:
        """Whether this worker's gradients of a step were given: they are not to change before they count."""
        return self._offered == step

    def vote(self, step: int, gradients: Mapping[str, Array], how: Mapping[str, Any], loss: float) -> float:
        """Return, once the servers hold all gradients of a step, its loss."""
        if self._offered != step:
            if self._buffers:
                self._keep(step + 1, self._buffers.end())
            if not self._kv.offer(gradients, **how):
                return loss
            self._offered, self._loss = step, loss
        self.voting = True
        try:
            self._vote.wait()
        finally:
            self.voting = False
        self.again = False
        return self._loss

    def settle(self, metrics: Mapping[str, Any]) -> float:
        """Take the step whose gradients the servers hold; return its mean loss, NaN where only who is gone knew it."""
        clock, loss = self._kv.clock, math.nan
        if self._offered == clock:
            loss = self._loss
            self._buffers.settle()
        else:
            self.succeed(clock + 1)
            self._kv.offer(None, None)
        self._kept, self.again = clock + 1, False
        self._kv.step({}, loss=loss, **metrics)
        return loss
