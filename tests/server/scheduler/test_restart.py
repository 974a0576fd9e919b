"""Promises of a scheduler that is started again from its file: nobody notices."""

from __future__ import annotations

import pytest

from ps.protocol.messages import BarrierEnter, InitDone, InitRequest, Leave
from support.desk import MODEL, Desk


def test_a_restart_between_any_two_steps_changes_no_answer() -> None:
    def tell(restarts: bool) -> list[str]:
        desk = Desk()
        a, b, late = 2, 3, 4
        answers = []
        for step in (
            lambda: desk.hello("server"),
            desk.hello,
            desk.hello,
            lambda: desk.say(InitRequest(1, a, MODEL)),
            lambda: desk.say(InitDone(2, a)),
            lambda: desk.say(InitRequest(1, b, MODEL)),
            lambda: desk.hello(rank=7),
            lambda: desk.say(InitRequest(1, late, MODEL)),
            lambda: desk.say(BarrierEnter(3, a, 4)),
            lambda: desk.say(BarrierEnter(3, b, 5)),
            lambda: desk.say(Leave(3, late, {})),
            lambda: desk.say(BarrierEnter(3, a, 4)),
            lambda: desk.say(BarrierEnter(4, a, 5)),
            lambda: desk.hello(rank=8),
            lambda: desk.say(BarrierEnter(4, b, 5)),
            lambda: desk.say(Leave(4, 5, {})),
            lambda: desk.say(Leave(9, a, {})),
            lambda: desk.say(Leave(9, b, {})),
        ):
            answers.append(repr(step()))
            if restarts:
                desk.restart()
        assert desk.state.phase == "ended"
        return answers

    assert tell(True) == tell(False)


def test_after_a_restart_everybody_has_the_whole_time_out_to_be_heard() -> None:
    desk = Desk()
    a, _ = desk.fill()
    desk.now += 300
    desk.restart()
    desk.wait(9, a)
    assert not desk.state.deaths
    desk.wait(2, a)
    assert [death["rank"] for death in desk.state.deaths] == [0]


@pytest.mark.parametrize(("outage", "patience"), [(15, 30), (3600, 120), (-5, 0)])
def test_after_an_outage_members_have_longer_than_it_lasted_to_come_back(outage: float, patience: float) -> None:
    desk = Desk()
    a, b = desk.fill()
    desk.now += max(outage, 0)
    desk.restart(outage)
    desk.wait(9 + patience, a, b)
    assert not desk.state.deaths, "they are looking for the scheduler"
    desk.wait(1, b)  # one has found it
    desk.wait(11, a, b)
    assert [death["rank"] for death in desk.state.deaths] == [1, 0]


def test_one_that_has_come_back_after_an_outage_has_its_time_out_and_no_more() -> None:
    desk = Desk()
    a, _ = desk.fill()
    desk.restart(600)
    desk.wait(1)
    desk.wait(11, a)
    assert [death["rank"] for death in desk.state.deaths] == [0]


def test_a_restarted_scheduler_still_knows_why_its_job_failed() -> None:
    desk = Desk()
    desk.fill()
    desk.wait(11, 1)
    assert desk.state.code == "server-lost"
    before = desk.state.view()
    desk.restart()
    assert desk.state.view() == before
