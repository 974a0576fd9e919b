"""Promises of the scheduler's state: deaths, goodbyes, the first values, and the end."""

from __future__ import annotations

import pytest

from ps.errors import BadMessage
from ps.protocol.messages import (
    BarrierEnter,
    Error,
    Heartbeat,
    HeartbeatAck,
    InitDone,
    InitGrant,
    InitRequest,
    Leave,
    Ok,
    Push,
    View,
)
from ps.server.send import ASKER, Send
from support.desk import MODEL, OTHER, Desk, messages


def test_the_silent_are_declared_dead_after_the_time_out_and_not_before() -> None:
    desk = Desk(heartbeat_timeout=5.0)
    workers = desk.fill()
    desk.wait(5, workers[0])
    assert not desk.state.deaths
    desk.wait(1, workers[0])
    assert desk.state.deaths == [{"role": "worker", "rank": 0, "why": "no heartbeat for 5 s", "clock": 0}]
    assert desk.state.phase == "running"


def test_one_that_was_stopped_and_goes_on_is_told_that_it_is_dead() -> None:
    desk = Desk()
    workers = desk.fill()
    desk.wait(11, workers[0])
    for message in (Heartbeat(workers[0], 1, {}), InitRequest(5, workers[0], MODEL), Leave(6, workers[0], {})):
        [send] = desk.say(message)
        assert isinstance(send.message, Error) and send.message.code == "evicted"
        assert "worker 0 (host, pid 2) was declared dead (no heartbeat for 10 s)" in send.message.text


def test_one_that_left_is_out() -> None:
    desk = Desk()
    workers = desk.fill()
    assert desk.say(Leave(4, workers[0], {}))[0].message == Ok(4)
    assert desk.say(Leave(4, workers[0], {}))[0].message == Ok(4)
    for message in (InitRequest(5, workers[0], MODEL), BarrierEnter(5, workers[0], 1), Heartbeat(workers[0], 1, {})):
        [send] = desk.say(message)
        assert isinstance(send.message, Error) and send.message.code == "evicted"
    assert desk.say(InitRequest(6, workers[1], MODEL)) == [Send(workers[1], InitGrant(6, True))]


def test_a_member_whose_connection_is_alive_is_not_dead_however_long_its_interpreter_is_held() -> None:
    desk = Desk()
    a, b = desk.fill()
    desk.wait(60, a, b, reach={a})
    assert [death["rank"] for death in desk.state.deaths] == [1]
    desk.wait(2, a)
    assert [death["rank"] for death in desk.state.deaths] == [1, 0], "its connection has ended"


def test_a_server_that_is_stuck_for_ever_is_dead_some_day_though_its_connection_is_alive() -> None:
    desk = Desk(heartbeat_timeout=2.0)
    desk.fill()
    desk.wait(59, 1, reach={1})
    assert not desk.state.deaths
    desk.wait(3, 1, reach={1})
    [death] = desk.state.deaths
    assert death["role"] == "server" and death["why"].startswith("no heartbeat for 60 s; its connection is alive")


def test_who_is_gone_when_a_job_is_over_is_known_and_is_no_death_of_the_job() -> None:
    desk = Desk()
    for worker in desk.fill():
        desk.say(Leave(1, worker, {}))
    assert desk.state.phase == "ended" and desk.state.count("server") == 1
    epoch = desk.state.epoch
    desk.wait(11, 1)
    assert desk.state.count("server") == 0 and not desk.state.deaths and desk.state.epoch == epoch


def test_one_that_comes_after_the_end_is_told_so() -> None:
    desk = Desk()
    for worker in desk.fill():
        desk.say(Leave(1, worker, {}))
    assert desk.refused().code == "ended"


def test_a_scheduler_that_stood_still_blames_nobody() -> None:
    desk = Desk()
    desk.fill()
    desk.wait(3)
    desk.now += 600
    assert desk.state.tick(desk.now) == []
    assert not desk.state.deaths
    desk.wait(9)
    assert not desk.state.deaths


def test_strangers_are_told_that_they_are_unknown() -> None:
    [send] = Desk().say(Heartbeat(99, 1, {}))
    assert isinstance(send.message, Error) and send.message.code == "unknown"


def test_servers_have_no_model_and_meet_nobody() -> None:
    desk = Desk()
    desk.fill()
    for message in (InitRequest(1, 1, MODEL), InitDone(1, 1), BarrierEnter(1, 1, 0)):
        with pytest.raises(BadMessage, match="comes from workers, not from server 0"):
            desk.say(message)
    with pytest.raises(BadMessage, match="no use for Push"):
        desk.say(Push(1, 1, 0, 0, 0, 1.0, 1.0, True))


def test_the_last_worker_that_leaves_ends_the_job() -> None:
    desk = Desk()
    first, second = desk.fill()
    desk.wait(11, first)
    assert desk.state.phase == "running"
    views = messages(desk.say(Leave(1, second, {})), View)
    assert [(to, view.phase) for to, view in views] == [(1, "ended")]


def test_a_job_all_of_whose_workers_died_is_kept_for_the_idle_time_out_and_has_failed_then() -> None:
    desk = Desk(idle_timeout=60.0)
    desk.wait(0)
    desk.wait(65, *desk.fill())
    assert desk.state.phase == "running"
    desk.wait(8)
    assert (desk.state.phase, desk.state.code) == ("failed", "no-worker")
    assert desk.state.reason.startswith("no worker is left, and none came for 60 s (--idle-timeout); the last was work")


def test_a_job_without_workers_goes_on_with_the_one_that_comes() -> None:
    desk = Desk(idle_timeout=60.0)
    workers = desk.fill()
    desk.wait(30, *workers)
    assert desk.state.absence.idle == pytest.approx(11, abs=1)
    assert desk.join().rank == 0
    desk.wait(100)
    assert desk.state.phase == "running"
    assert desk.state.absence.idle is None


@pytest.mark.parametrize("how", ["dies", "is told to end"])
def test_a_job_whose_last_worker_was_not_done_is_kept_though_others_were(how: str) -> None:
    desk = Desk(idle_timeout=60.0)
    first, second = desk.fill()
    desk.say(Leave(1, first, {}))
    if how == "dies":
        desk.wait(11, second)
    else:
        desk.say(Leave(1, second, {"terminated": True}))
    assert desk.state.phase == "running" and not desk.state.count("worker")
    desk.say(Leave(1, desk.join().member, {}))
    assert desk.state.phase == "ended"


def test_workers_that_were_told_to_end_before_they_were_done_leave_a_job_that_others_can_go_on_with() -> None:
    desk = Desk()
    for worker in desk.fill():
        desk.say(Leave(1, worker, {"failure": "SystemExit: 143", "terminated": True}))
    assert desk.state.phase == "running"
    desk.say(Leave(1, desk.join().member, {}))
    assert desk.state.phase == "ended"


@pytest.mark.parametrize("how", ["dies", "leaves"])
def test_without_one_of_its_servers_a_job_has_failed_and_all_are_told_which(how: str) -> None:
    desk = Desk()
    workers = desk.fill()
    sends = desk.wait(11, 1) if how == "dies" else desk.say(Leave(1, 1, {}))
    views = [(to, view) for to, view in messages(sends, View) if view.phase == "failed"]
    assert {to for to, _ in views} == set(workers)
    assert desk.state.code == "server-lost"
    assert "server 0 (host, pid 1)" in desk.state.reason and "its part of the model is gone" in desk.state.reason


def test_a_server_that_goes_before_the_job_runs_can_be_replaced() -> None:
    desk = Desk()
    desk.join("server")
    desk.say(Leave(1, 1, {}))
    assert desk.join("server").rank == 0


def test_what_is_remembered_of_the_gone_is_bounded() -> None:
    desk = Desk()
    desk.fill()
    for _ in range(1100):
        member = desk.join().member
        desk.say(Leave(1, member, {}))
    assert len(desk.state.members) <= 1003


def test_a_heartbeat_is_answered_and_brings_a_view_that_was_missed() -> None:
    desk = Desk()
    workers = desk.fill()
    epoch = desk.state.epoch
    assert [s.message for s in desk.say(Heartbeat(workers[0], epoch, {}))] == [HeartbeatAck(epoch)]
    assert messages(desk.say(Heartbeat(workers[0], epoch - 1, {})), View)


def test_the_first_init_wins_and_the_others_wait_for_its_values() -> None:
    desk = Desk()
    a, b = desk.fill()
    assert desk.say(InitRequest(5, a, MODEL)) == [Send(a, InitGrant(5, True))]
    assert desk.say(InitRequest(6, b, MODEL)) == []
    assert desk.say(InitDone(7, a)) == [Send(ASKER, Ok(7)), Send(b, InitGrant(6, False))]
    assert desk.say(InitDone(7, a)) == [Send(ASKER, Ok(7))]


def test_when_the_seed_dies_the_next_one_seeds() -> None:
    desk = Desk()
    a, b = desk.fill()
    desk.say(InitRequest(5, a, MODEL))
    desk.say(InitRequest(6, b, MODEL))
    assert Send(b, InitGrant(6, True)) in desk.wait(11, a)


def test_another_model_is_refused_with_the_tensor_that_differs() -> None:
    desk = Desk()
    a, b = desk.fill()
    desk.say(InitRequest(5, a, MODEL))
    [send] = desk.say(InitRequest(6, b, OTHER))
    assert isinstance(send.message, Error) and send.message.code == "layout"
    assert "worker 1 has w float32[5] where worker 0 has w float32[4]" in send.message.text
