"""Promises of a worker that is asked to end: it goes on until the last checkpoint is whole, and not for long."""

from __future__ import annotations

from ps.protocol.messages import CheckpointOrder
from ps.worker.cut_plan import CutPlan
from ps.worker.last_cut import LastCut


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_ends_when_the_checkpoint_is_whole_that_was_made_since() -> None:
    clock = Clock()
    plan = CutPlan(clock)
    last = LastCut(plan, 40.0, clock)
    plan.hear(CheckpointOrder(1, "mark", 5, "step-000005"))
    plan.hear(CheckpointOrder(1, "done", 5, "step-000005"))
    clock.now += 5
    asked = clock.now
    assert not last.may_end(asked), "that one was made before"
    clock.now += 1
    plan.hear(CheckpointOrder(2, "mark", 9, "step-000009"))
    clock.now += 1
    assert not last.may_end(asked), "it is under way"
    plan.hear(CheckpointOrder(2, "done", 9, "step-000009"))
    assert not last.may_end(asked), "another one may follow"
    clock.now += 0.2
    assert last.may_end(asked) and last.may_end(asked + 2.2), "also where a launcher had it made first"


def test_it_does_not_wait_for_long_for_what_nobody_makes_or_what_does_not_come_to_its_end() -> None:
    clock = Clock()
    plan = CutPlan(clock)
    last = LastCut(plan, 40.0, clock)
    clock.now += 2.9
    assert not last.may_end(100.0)
    clock.now += 0.2
    assert last.may_end(100.0)
    plan.hear(CheckpointOrder(1, "mark", 5, "step-000005"))
    clock.now = 109.9
    assert not last.may_end(100.0)
    clock.now = 110.1
    assert last.may_end(100.0)
