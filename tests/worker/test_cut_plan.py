"""Promises of what a worker keeps for a checkpoint: it is as after the clock of that, whatever its script waits for."""

from __future__ import annotations

from typing import Any

import pytest

from ps.protocol.messages import CheckpointOrder, CheckpointPart
from ps.worker.cut_plan import CutPlan


class Worker:
    """One that keeps how many steps it has done, for which no file is written."""

    def __init__(self, *, exact: bool = True) -> None:
        self.plan, self.steps, self.kept = CutPlan(), 0, list[int]()
        self.plan.is_empty, self.plan.is_exact = lambda: False, exact
        self.plan.capture = lambda: self.kept.append(self.steps)

    def step(self) -> None:
        self.steps += 1
        self.plan.stepped(self.steps)

    def hear(self, phase: Any, clock: int = 0, number: int = 1) -> str:
        self.plan.hear(CheckpointOrder(number, phase, clock, "step-000003" if clock else ""))
        return self.state()

    def state(self) -> str:
        said = self.plan.say(7)
        assert all(isinstance(message, CheckpointPart) for message in said)
        return said[-1].state if said else ""  # type: ignore[attr-defined]


def test_what_is_kept_is_taken_just_when_the_clock_is_done() -> None:
    worker = Worker()
    assert worker.hear("mark", 3) == "marked"
    for _ in range(5):
        worker.step()
    assert worker.kept == [3] and worker.state() == "written"


@pytest.mark.parametrize("again", [False, True])
def test_a_barrier_that_opens_before_the_clock_of_a_cut_takes_nothing_of_an_earlier_one(again: bool) -> None:
    worker = Worker()
    worker.step()
    worker.hear("mark", 3)
    worker.plan.pause()
    if again:
        worker.hear("mark", 3)
    assert worker.kept == []
    worker.plan.go_on(1)
    worker.step(), worker.step()
    assert worker.kept == [3] and worker.state() == "written"


def test_one_that_waits_in_a_barrier_is_at_the_clock_that_all_servers_have_reached() -> None:
    for early in (False, True):
        worker = Worker()
        worker.step()
        if early:
            worker.plan.pause()
        worker.hear("mark", 3)
        if not early:
            worker.plan.pause()
        assert worker.kept == [] and worker.hear("reached", 3) == "written" and worker.kept == [1]
        worker.plan.go_on(5)
        assert worker.kept == [1]


def test_one_that_was_passed_over_in_a_barrier_has_what_it_kept_before() -> None:
    worker = Worker()
    worker.step()
    worker.hear("mark", 3)
    worker.plan.pause()
    worker.plan.go_on(5)
    assert worker.kept == [1] and worker.state() == "written"
    worker.hear("done"), worker.hear("mark", 4, number=2)
    assert worker.kept == [1] and worker.plan.say(7) == []


def test_one_that_is_beyond_the_clock_is_late_also_in_a_barrier_and_one_without_a_common_clock_never_is() -> None:
    worker = Worker()
    for _ in range(4):
        worker.step()
    worker.plan.pause()
    assert worker.hear("mark", 3) == "late" and worker.hear("reached", 3) == "late" and worker.kept == []
    other = Worker(exact=False)
    other.step(), other.step()
    other.hear("mark", 1)
    other.plan.pause()
    assert other.kept == [2] and other.state() == "written"
