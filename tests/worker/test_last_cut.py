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


def test_it_ends_when_no_other_checkpoint_comes_and_not_with_one_that_was_under_way_when_it_was_asked() -> None:
    clock = Clock()
    plan = CutPlan(clock)
    last = LastCut(plan, 40.0, clock)
    plan.hear(CheckpointOrder(1, "mark", 5, "step-000005"))
    clock.now += 1
    asked = clock.now
    assert not last.may_end(asked)
    clock.now += 2.5
    plan.hear(CheckpointOrder(1, "done", 5, "step-000005"))
    clock.now += 1
    assert not last.may_end(asked), "another one may follow, of what was done since"
    plan.hear(CheckpointOrder(2, "mark", 9, "step-000009"))
    clock.now += 4
    assert not last.may_end(asked), "it is under way"
    plan.hear(CheckpointOrder(2, "drop", 9, "step-000009"))
    assert not last.may_end(asked)
    plan.hear(CheckpointOrder(2, "last", 5, ""))
    assert last.may_end(asked) and last.may_end(asked + 9), "also where a launcher had it made first"
    plan.hear(CheckpointOrder(3, "mark", 12, "step-000012"))
    assert not last.may_end(clock.now), "it was asked for by hand"


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
