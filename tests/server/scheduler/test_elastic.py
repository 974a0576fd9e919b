"""Promises of a range of workers: with how many a job begins and goes on, who waits as a spare, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from ps.protocol.messages import Heartbeat, HeartbeatAck, Leave, Quorum, Seat, View
from support.desk import Desk, messages


def begun(least: int = 2, most: int = 4, here: int = 4, **job: Any) -> tuple[Desk, list[int]]:
    """Return a job with so many workers here, which runs."""
    desk = Desk(workers=most, min_workers=least, **job)
    desk.join("server")
    workers = [desk.join().member for _ in range(here)]
    desk.wait(5)
    assert desk.state.phase == "running"
    return desk, workers


def missing(desk: Desk, member: int) -> int:
    """Return how many workers lack, as one is told that has not heard of the view."""
    [_, *told] = desk.say(Heartbeat(member, 0, {}))
    assert [type(send.message) for send in told] == [View, Quorum]
    return told[1].message.missing


def test_it_begins_at_once_with_all_and_with_the_fewest_when_nobody_else_comes() -> None:
    desk = Desk(workers=4, min_workers=2)
    desk.join("server")
    desk.join()
    desk.wait(50)
    desk.join()
    assert desk.state.phase == "waiting"
    desk.wait(2)
    desk.join()  # and the time for others begins anew
    desk.wait(2)
    assert desk.state.phase == "waiting"
    desk.wait(2)
    assert desk.state.phase == "running"
    assert [worker.initial for worker in desk.state.live("worker")] == [True] * 3
    assert desk.join().rank == 3 and not desk.state.roster.at("worker", 3).initial


def test_it_is_given_up_when_not_even_the_fewest_come_in_time() -> None:
    desk = Desk(workers=4, min_workers=2, start_timeout=30.0)
    desk.join("server")
    desk.join()
    desk.wait(31)
    assert (desk.state.phase, desk.state.code) == ("failed", "timeout")
    assert "1 of 2 workers joined" in desk.state.reason


def test_with_too_few_nobody_begins_a_step_until_others_come() -> None:
    desk, workers = begun()
    assert missing(desk, workers[0]) == 0
    desk.wait(12, *workers[1:])
    assert len(desk.state.deaths) == 3 and missing(desk, workers[0]) == 1
    desk.wait(300)
    welcome = desk.join()
    assert welcome.rank == 1 and missing(desk, workers[0]) == 0
    desk.wait(1000)
    assert desk.state.phase == "running"


@pytest.mark.parametrize("left", [1, 0])
def test_too_few_for_the_idle_time_out_end_the_job_and_it_says_how_many_there_were(left: int) -> None:
    desk, workers = begun(idle_timeout=60.0)
    desk.wait(12, *workers[left:])
    assert missing(desk, workers[0]) == 1 if left else True
    desk.wait(61)
    assert (desk.state.phase, desk.state.code) == ("failed", "no-worker")
    words = "of at least 2 workers 1 are left" if left else "no worker is left"
    assert words in desk.state.reason and "60 s (--idle-timeout)" in desk.state.reason


def test_where_a_worker_has_come_to_its_end_the_others_come_to_theirs_also_after_a_restart_of_the_scheduler() -> None:
    desk, workers = begun(idle_timeout=60.0)
    for member in workers[:3]:
        desk.say(Leave(1, member, {}))
    desk.restart()
    desk.say(Heartbeat(workers[3], 99, {}))
    assert missing(desk, workers[3]) == 0
    desk.wait(120)
    desk.say(Leave(1, workers[3], {}))
    assert desk.state.phase == "ended"


@pytest.mark.parametrize("report", [{"terminated": True}, {"failure": "the script raised"}])
def test_one_that_was_preempted_or_has_failed_has_not_come_to_its_end(report: dict[str, Any]) -> None:
    desk, workers = begun()
    for member in workers[1:]:
        desk.say(Leave(1, member, report))
    assert missing(desk, workers[0]) == 1


def test_beyond_the_most_a_worker_waits_and_takes_the_first_rank_that_becomes_free() -> None:
    desk, workers = begun()
    first, second = desk.join(), desk.join()
    assert (first.rank, second.rank) == (4, 5) and desk.state.count("worker") == 4
    sends = desk.say(Leave(1, workers[2], {"terminated": True}))
    [(to, seat)] = messages(sends, Seat)
    assert (to, seat.rank, seat.barriers) == (first.member, 2, 0)
    assert desk.state.count("worker") == 4 and not desk.state.roster.at("worker", 2).initial
    desk.wait(12, workers[0])
    assert desk.state.roster.at("worker", 0).member == second.member
    assert desk.join().rank == 4, "one that comes later waits in turn"


def test_who_heard_of_the_view_is_not_told_again() -> None:
    desk, workers = begun()
    [send] = desk.say(Heartbeat(workers[0], desk.state.epoch, {}))
    assert isinstance(send.message, HeartbeatAck)


def test_a_job_without_a_range_is_told_nothing_of_it_and_has_no_end_of_places() -> None:
    desk = Desk(workers=2)
    workers = desk.fill()
    assert desk.join().rank == 2 and desk.state.count("worker") == 3
    desk.wait(12, *workers)
    assert not [send for send in desk.state.receive(Heartbeat(4, 0, {}), desk.now) if isinstance(send.message, Quorum)]
