"""Promises of a worker's leases: a batch counts as used with its own step, and a script that takes more is told."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from ps.protocol.messages import Lease
from ps.worker.leases import SAMPLE, BatchesCall, LeasedCourse


class Link:
    """A connection whose scheduler hands out all batches at once."""

    member, clock, patience, silence = 1, 0, 1.0, 0.0

    def begin(self, make: Any) -> Any:
        return self

    def look(self, wait: float = 0.0) -> Lease:
        return Lease(1, "cells", 1, 0, ((0, 1, 1000),))

    def close(self) -> None:
        pass

    check = step_aside = come_back = close


@pytest.mark.parametrize(("each", "ahead", "told"), [(1, 0, False), (1, 40, False), (2, 0, True), (4, 1, True)])
def test_a_batch_is_used_with_its_own_step_and_who_takes_several_for_one_is_told_once(
    each: int, ahead: int, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    link: Any = Link()
    course = LeasedCourse(link, BatchesCall(0, 10_000, 10, 1, 1, 1000))
    batches = course.cells()
    for _ in range(ahead):  # as a thread does that reads ahead
        next(batches)
    for clock in range(1, 3 * SAMPLE + 1):
        for _ in range(each):
            next(batches)
        course.stepped(clock)
        assert course.point == (clock, clock), "never too early"
    assert [record.message.split(", and")[0] for record in caplog.records] == [
        f"this script takes {each * SAMPLE} batches of kv.batches for {SAMPLE} steps"
    ] * told
