"""Limits that hold: many who connect to a running job, and say nothing, or too much, are cut or cost next to nothing.

The honest workers beside them go on, and all ends as asked. ``scripts/crowd`` does the same with a thousand, for long.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ps.protocol.unfinished import MOST_UNFINISHED
from support.crowding import Crowding
from support.hanging_on import HangingOn

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

HEARTBEAT = 10.0
"""The heartbeat time-out of a job for which none is chosen, in seconds."""
STALLED = 8.0
"""Seconds without a step of a worker, on a busy machine; without limits it is until the attack ends."""


@pytest.fixture(scope="module")
def job() -> Iterator[Crowding]:
    crowding = Crowding(count=150, seconds=3.0)
    yield crowding
    crowding.close()


@pytest.mark.parametrize(
    ("attack", "grown"), [("silent", 40), ("slow", 40), ("idle", 60), ("unread", 200), ("nonsense", 700)]
)
def test_a_crowd_stops_nobody_and_takes_bounded_memory(job: Crowding, attack: str, grown: float) -> None:
    seen = job.run(attack)
    assert seen.connections >= 2 and seen.longest < STALLED
    assert seen.grown_mb < grown
    if attack == "nonsense":
        assert seen.cut > 2, "who was cut came again"


def test_messages_that_do_not_end_are_cut_on_all_connections_at_once(job: Crowding) -> None:
    job.count, job.seconds = 1000, 5.0
    seen = job.run("endless")
    assert seen.cut > 0 and seen.longest < STALLED
    assert seen.grown_mb < MOST_UNFINISHED / 1e6  # more comes between two looks the faster the machine is


def test_all_who_hang_on_with_a_key_that_is_revoked_are_cut_and_come_back_with_the_next() -> None:
    job = HangingOn(150)
    try:
        seen = job.run()
    finally:
        job.close()
    assert seen.cut < HEARTBEAT, seen
    assert seen.longest < STALLED, seen
