"""Takeover: how a worker of a pipeline goes on when another process is in the place of one that is gone, or when it is
that process itself."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ps.worker.interrupt import HOLD
from ps.worker.pipeline.passes import Passes
from ps.worker.pipeline.peers import PipelinePeers, StageReplaced
from ps.worker.pipeline.replay import Replay, StepHeld

log = logging.getLogger("ps.worker")

Returned = TypeVar("Returned")


class Takeover:
    """Begins again what was under way."""

    def __init__(self, lines: PipelinePeers, passes: Passes, replay: Replay, reset: Callable[[], None]) -> None:
        """``reset``: called when what was under way is over."""
        self._lines, self._passes, self.replay, self._reset = lines, passes, replay, reset
        lines.look = replay.look

    def succeed(self, clock: int) -> None:
        """Go on for the worker that was here before, which had done so many steps."""
        log.info("this process goes on for a worker that is gone, at clock %d", clock)
        self.replay.succeed(clock)
        self._passes.succeed()
        self.replay.begin_again()

    def meet(self) -> None:
        """Another process is in the place of one that is gone: find it. Raises PeerLost."""
        log.warning("another process takes the place of a worker of this pipeline, which goes on with it")
        self._passes.begin_again()
        self._reset()
        self.replay.begin_again()

    def tend(self) -> None:
        """Look after the lines while this worker waits for servers."""
        self._lines.turn()
        if self.replay.voting:
            self._lines.demand_same()
            if not self.replay.held:  # nobody takes the place of one whose script has failed
                self._lines.demand_all()

    def persist(self, function: Callable[[], Returned]) -> Returned:
        """Return what a function does outside of steps, begun again where a worker is replaced."""
        with HOLD:
            while True:
                try:
                    return function()
                except StageReplaced:
                    self.meet()
                except StepHeld:
                    self.replay.settle({})
                    self.replay.done_before = True

    def step(self, attempt: Callable[[], float], metrics: Mapping[str, Any]) -> float:
        """Take a step, as often as it must be; return its mean loss.

        An interrupt waits for the step's end, or for a place where it stands and waits: what was told to the others, or
        had come from them, would not be remembered here otherwise.
        """
        if self.replay.done_before:
            self.replay.done_before = False
            return math.nan
        with HOLD:
            while True:
                try:
                    return attempt()
                except StageReplaced:
                    self.meet()
                except StepHeld:
                    self._reset()
                    return self.replay.settle(metrics)
