"""Promises of places in a pipeline: one that is lost is a spare's at once, or kept for the next worker that comes,
and nobody waits for ever."""

from __future__ import annotations

from typing import Any

import pytest

from ps.protocol.messages import BarrierEnter, BarrierLeave, Hello, Identify, Leave, Seat, View, Welcome
from support.desk import Desk, messages


def workers_of(view: View) -> dict[int, int]:
    return {rank: member for member, role, rank, *_ in view.members if role == "worker"}


def desk_with(spares: int = 0, *, announced: int = 1, workers: int = 2) -> tuple[Desk, list[int], list[int]]:
    desk = Desk(mode="pipeline", workers=workers, spares=announced)
    found = desk.fill()
    return desk, found, [desk.join().member for _ in range(spares)]


def test_a_job_begins_without_its_spares_and_not_with_them() -> None:
    desk = Desk(mode="pipeline", workers=2, spares=1)
    desk.join("server")
    desk.join(rank=2)
    desk.join(rank=0)
    assert desk.state.phase == "waiting"
    desk.join(rank=1)
    assert desk.state.phase == "running"
    assert [record.rank for record in desk.state.live("worker")] == [0, 1]


def test_the_spare_that_came_first_takes_the_place_of_one_that_is_lost() -> None:
    desk, (_, second), (first_spare, _) = desk_with(2)
    sends = desk.wait(12, second)
    [(to, seat)] = messages(sends, Seat)
    assert to == first_spare and seat.rank == 1
    assert workers_of(desk.state.view())[1] == first_spare
    identify = Identify(3, desk.state.key.job_id, seat.member, seat.rank, seat.number, seat.proof)
    assert isinstance(desk.say(identify)[0].message, Welcome), "and proves it"
    assert desk.state.members[first_spare].initial, "servers wait for it as for the one before it"


def test_the_latest_of_several_that_had_a_place_has_the_highest_number() -> None:
    desk, (_, second), (early, late) = desk_with(2)
    desk.wait(12, second)
    assert desk.state.members[early].number > desk.state.members[late].number
    desk.wait(12, early)
    assert workers_of(desk.state.view())[1] == late
    assert desk.state.members[late].number > desk.state.members[early].number > desk.state.members[second].number


def test_a_place_is_kept_for_the_next_worker_while_all_go_on_as_if_it_were_there() -> None:
    desk, (first, second), _ = desk_with()
    desk.wait(12, second)
    assert workers_of(desk.state.view()) == {0: first, 1: second}
    assert not messages(desk.say(BarrierEnter(9, first, 4)), BarrierLeave), "it is waited for"
    desk.restart()
    newcomer = desk.join().member
    assert workers_of(desk.state.view()) == {0: first, 1: newcomer}
    assert not messages(desk.say(BarrierEnter(9, first, 4)), BarrierLeave)
    assert len(messages(desk.say(BarrierEnter(9, newcomer, 4)), BarrierLeave)) == 2


def test_a_place_is_kept_no_longer_than_the_start_time_out() -> None:
    desk, (first, second), _ = desk_with()
    desk.wait(12, second)
    desk.wait(desk.state.setting("start_timeout") + 5)
    assert workers_of(desk.state.view()) == {0: first}


def test_a_pipeline_of_which_nobody_is_left_keeps_no_place_from_the_others() -> None:
    desk = Desk(mode="pipeline", workers=4, stages=2, spares=1)
    first, second, third, fourth = desk.fill()
    desk.wait(12, third, fourth)
    assert workers_of(desk.state.view()) == {0: first, 1: second}


def test_nobody_takes_the_place_of_one_whose_script_failed_or_that_came_to_its_end() -> None:
    for report in ({"failure": "OSError: no disk"}, {}):
        desk, (first, second), (spare,) = desk_with(1)
        desk.say(Leave(1, second, report))
        assert workers_of(desk.state.view()) == {0: first, 2: spare}
        desk.wait(12, first)
        assert 0 not in workers_of(desk.state.view()), "nor that of another one of its pipeline then"


def test_one_that_was_told_to_end_is_replaced() -> None:
    desk, (_, second), (spare,) = desk_with(1)
    assert messages(desk.say(Leave(1, second, {"terminated": True})), Seat)
    assert workers_of(desk.state.view())[1] == spare


def test_the_job_ends_with_its_last_worker_whatever_spares_there_are() -> None:
    desk, workers, _ = desk_with(2)
    for member in workers:
        desk.say(Leave(1, member, {}))
    assert desk.state.phase == "ended"


def test_without_spares_a_place_is_lost() -> None:
    desk, (first, second), _ = desk_with(announced=0)
    desk.wait(12, second)
    assert workers_of(desk.state.view()) == {0: first}


def test_who_takes_a_place_hears_how_many_barriers_the_one_before_it_has_met_the_others_in() -> None:
    desk, workers, (spare,) = desk_with(1)
    for request in (1, 2):
        for member in workers:
            desk.say(BarrierEnter(request, member, 3))
    [(_, seat)] = messages(desk.wait(12, workers[0]), Seat)
    assert seat.member == spare and seat.barriers == desk.state._barrier.count > 0


def test_a_seat_that_was_lost_on_its_way_is_told_again() -> None:
    desk, (_, second), (spare,) = desk_with(1)
    [(_, seat)] = messages(desk.wait(12, second), Seat)
    record = desk.state.members[spare]
    hello = Hello(0, record.nonce, "worker", -1, "host", 1, "", (), {})
    assert (spare, seat) in messages(desk.say(hello), Seat)


@pytest.mark.parametrize("job", [{"mode": "pipeline-ssp"}, {"mode": "pipeline", "waves": 2}])
def test_where_no_step_can_be_taken_again_nobody_takes_a_place_though_one_waits(job: dict[str, Any]) -> None:
    desk = Desk(workers=2, **job)
    first, second = desk.fill()
    extra = desk.join().member
    desk.wait(12, second)
    assert workers_of(desk.state.view()).get(0) == first
    assert workers_of(desk.state.view()).get(1) is None
    assert not messages(desk.wait(1), Seat) and extra in desk.state.members
