"""Promises of the barrier: all live workers meet twice, retries are answered, newcomers between do no harm."""

from __future__ import annotations

import pytest

from ps.errors import BadMessage
from ps.protocol.messages import BarrierEnter, BarrierLeave, Heartbeat
from ps.server.scheduler.barrier import Barrier
from ps.server.send import Send
from support.desk import Desk


def test_nobody_is_through_before_all_are_there_and_all_learn_the_highest_clock() -> None:
    barrier = Barrier()
    assert barrier.enter(1, 10, 5, True, [1, 2]) == []
    assert barrier.enter(1, 10, 5, True, [1, 2]) == []
    assert barrier.enter(2, 20, 7, True, [1, 2]) == [(1, 10, 7), (2, 20, 7)]


def test_who_missed_the_answer_gets_it_again_and_an_old_question_is_ignored() -> None:
    barrier = Barrier()
    barrier.enter(1, 10, 5, True, [1])
    assert barrier.enter(1, 10, 5, True, [1]) == [(1, 10, 5)]
    barrier.enter(1, 11, 5, True, [1])
    assert barrier.enter(1, 10, 5, True, [1]) == []
    assert barrier.entered == {}


def test_a_newcomer_is_not_waited_for_at_the_second_meeting() -> None:
    barrier = Barrier()
    barrier.enter(1, 10, 5, True, [1, 2])
    barrier.enter(2, 20, 5, True, [1, 2])
    assert barrier.enter(1, 11, 5, True, [1, 2, 3]) == []
    assert barrier.enter(2, 21, 5, True, [1, 2, 3]) == [(1, 11, 5), (2, 21, 5)]


def test_a_newcomers_first_meeting_is_not_the_others_second() -> None:
    barrier = Barrier()
    barrier.enter(1, 10, 5, True, [1])
    assert barrier.enter(3, 30, 5, True, [1, 3]) == []
    assert barrier.enter(1, 11, 5, True, [1, 3]) == [(1, 11, 5)]
    assert list(barrier.entered) == [3]
    assert barrier.enter(1, 12, 9, True, [1, 3]) == [(1, 12, 9), (3, 30, 9)]


def test_who_has_no_model_yet_meets_once() -> None:
    barrier = Barrier()
    barrier.enter(1, 10, 0, False, [1, 2])
    barrier.enter(2, 20, 0, False, [1, 2])
    assert barrier.inside == set()
    barrier.enter(1, 11, 0, True, [1, 2])
    assert barrier.enter(2, 21, 0, True, [1, 2]) == [(1, 11, 0), (2, 21, 0)]
    assert barrier.inside == {1, 2}


def test_the_gone_are_waited_for_at_neither_meeting() -> None:
    barrier = Barrier()
    barrier.enter(1, 10, 5, True, [1, 2])
    assert barrier.check([1]) == [(1, 10, 5)]
    barrier.enter(2, 20, 5, True, [1, 2])
    barrier.enter(1, 11, 5, True, [1, 2])
    barrier.enter(1, 12, 6, True, [1, 2])
    assert barrier.inside == {1, 2}
    barrier.enter(1, 13, 6, True, [1, 2])
    assert barrier.check([1]) == [(1, 13, 6)]
    assert set(barrier.passed) == {1}


def test_a_restart_between_the_meetings_keeps_the_group() -> None:
    barrier = Barrier()
    barrier.enter(1, 10, 5, True, [1])
    again = Barrier.load(barrier.dump())
    assert again.enter(3, 30, 5, True, [1, 3]) == []
    assert again.enter(1, 10, 5, True, [1, 3]) == [(1, 10, 5)]
    assert again.enter(1, 11, 5, True, [1, 3]) == [(1, 11, 5)]


def test_a_clock_that_nobody_can_have_reached_is_refused_and_the_others_meet_without_it() -> None:
    desk = Desk(servers=1, workers=2)
    server = desk.join("server").member
    a, b = (desk.join().member for _ in range(2))
    desk.say(Heartbeat(server, desk.state.epoch, {"clock": 7}))
    with pytest.raises(BadMessage, match="a barrier at clock 9007199254740992, where servers have counted 7"):
        desk.say(BarrierEnter(5, b, 1 << 53))
    assert desk.say(BarrierEnter(5, a, 9)) == []
    through = desk.say(BarrierEnter(6, b, 8))
    assert {send.message.clock for send in through if isinstance(send.message, BarrierLeave)} == {9}


def test_a_barrier_shrinks_with_the_dead() -> None:
    desk = Desk()
    a, b = desk.fill()
    assert desk.say(BarrierEnter(5, a, 3)) == []
    assert Send(a, BarrierLeave(5, 3)) in desk.wait(11, b)
