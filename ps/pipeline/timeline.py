"""ScheduleTimeline: what a schedule takes, and how much of that its workers are idle, when each pass takes so long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from ps.dataclass import dataclass
from ps.errors import StateError
from ps.pipeline.action import BACKWARD, FORWARD, INPUT, WEIGHTS, Action

Costs: TypeAlias = Mapping[str, int]
"""How long each kind of pass takes."""

USUAL: Costs = {FORWARD: 1, BACKWARD: 2, INPUT: 1, WEIGHTS: 1}
"""A backward pass takes twice as long as a forward pass: it has two products where that has one."""

AGAIN: Costs = {**USUAL, BACKWARD: 3, INPUT: 2}
"""The same where the forward pass is done again before the backward pass."""


@dataclass(frozen=True, slots=True)
class TimedAction:
    """One action, from when to when."""

    action: Action
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ScheduleTimeline:
    """What each worker does when, if what is sent is there at once."""

    workers: list[list[TimedAction]]

    @property
    def length(self) -> int:
        """How long it takes until all is done."""
        return max(spans[-1].stop for spans in self.workers)

    @property
    def bubble(self) -> float:
        """Which share of the workers' time they are idle, from 0 to 1."""
        busy = sum(span.stop - span.start for spans in self.workers for span in spans)
        return 1 - busy / (self.length * len(self.workers))

    def most_held(self, worker: int) -> int:
        """Return of how many micro-batches a worker holds something at once, at most, counted for each stage."""
        spans = self.workers[worker]
        ends = {(span.action.stage, span.action.microbatch): index for index, span in enumerate(spans)}
        held = most = 0
        for index, span in enumerate(spans):
            held += span.action.kind == FORWARD
            most = max(most, held)
            held -= ends[span.action.stage, span.action.microbatch] == index
        return most


def timeline(work: Sequence[Sequence[Action]], stages: int, costs: Costs = USUAL) -> ScheduleTimeline:
    """Return when each worker's actions are done, in their order, each as soon as what it needs is there.

    Raises StateError where workers wait for each other.
    """
    done: dict[Action, int] = {}
    workers: list[list[TimedAction]] = [[] for _ in work]
    total = sum(map(len, work))
    while len(done) < total:
        before = len(done)
        for actions, spans in zip(work, workers, strict=True):
            while len(spans) < len(actions):
                action = actions[len(spans)]
                needed = action.after(stages)
                if needed is not None and needed not in done:
                    break
                start = max(spans[-1].stop if spans else 0, 0 if needed is None else done[needed])
                done[action] = start + costs[action.kind]
                spans.append(TimedAction(action, start, done[action]))
        if len(done) == before:
            raise StateError("the workers of this schedule wait for each other")
    return ScheduleTimeline(workers)
