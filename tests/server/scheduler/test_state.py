"""Promises of the scheduler's state: ranks, refusals, deaths, the end, and a restart at any step."""

from __future__ import annotations

from typing import Any

import pytest

from ps.errors import BadMessage
from ps.protocol.codec import decode, encode
from ps.protocol.messages import (
    BarrierEnter,
    BarrierLeave,
    Error,
    Heartbeat,
    HeartbeatAck,
    Hello,
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

# Joining


def test_ranks_are_the_lowest_free_and_one_that_is_asked_for_is_given() -> None:
    desk = Desk(workers=4)
    assert [desk.join(rank=rank).rank for rank in (-1, 2, -1, -1)] == [0, 2, 1, 3]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_of_processes_numbered_over_all_roles_each_gets_a_seat_and_a_worker_has_rank_0(order: tuple[int, ...]) -> None:
    desk = Desk(servers=2, workers=2)
    roles = {0: "server", 1: "server", 2: "worker", 3: "worker"}
    seats = [(roles[number], desk.join(roles[number], suggested=number).rank) for number in order]
    assert sorted(seats) == [("server", 0), ("server", 1), ("worker", 0), ("worker", 1)]
    assert desk.state.phase == "running"


def test_a_rank_that_is_suggested_is_given_while_it_is_free_and_taken_from_nobody() -> None:
    desk = Desk(workers=3)
    assert [desk.join(suggested=rank).rank for rank in (1, 1, 2, 7)] == [1, 0, 2, 3]
    desk.refused(rank=1, suggested=9)  # a demand is one


def test_the_rank_of_one_that_is_gone_is_given_to_the_next() -> None:
    desk = Desk(workers=3)
    workers = desk.fill()
    desk.say(Leave(1, workers[1], {}))
    assert desk.join().rank == 1


def test_a_repeated_hello_is_the_same_member() -> None:
    desk = Desk()
    first, again = (desk.hello(nonce=77)[0].message for _ in range(2))
    assert first == again and len(desk.state.members) == 1


def test_a_member_whose_welcome_got_lost_is_alive_while_it_asks() -> None:
    desk = Desk()
    desk.hello(nonce=77)
    for _ in range(20):
        desk.now += 1.0
        desk.hello(nonce=77)
        desk.state.tick(desk.now)
    assert [m.state for m in desk.state.members.values()] == ["live"]


@pytest.mark.parametrize(
    ("asks", "code", "words"),
    [
        ({"role": "server"}, "rank-taken", "the job has 1 servers, and they are here"),
        ({"role": "server", "rank": 5}, "rank-taken", "server 5 asked to join, but the job has 1 servers"),
        ({"rank": 0}, "rank-taken", "rank 0 is taken by worker 0 (host, pid 2), which is alive"),
        ({"mode": "async"}, "config", "this worker's script asks for mode = async, but the job runs with sync"),
        ({"modee": "async"}, "config", "modee"),
        ({"staleness": "many"}, "config", "staleness = 'many'"),
    ],
)
def test_who_cannot_join_is_told_why(asks: dict[str, Any], code: str, words: str) -> None:
    desk = Desk()
    desk.join("server")
    desk.join()
    before = desk.state.dump()
    error = desk.refused(**asks)
    assert error.code == code and words in error.text
    assert desk.state.dump() == before


def test_the_first_workers_script_completes_the_job_and_what_is_explicit_wins() -> None:
    desk = Desk(mode="ssp")
    welcome = desk.join(mode="async", staleness=7)
    assert (welcome.job["mode"], welcome.job["staleness"]) == ("ssp", 7)


@pytest.mark.parametrize(
    ("explicit", "script", "told"),
    [
        (
            {"staleness": 3},
            {},
            ["staleness = 3 changes nothing with mode = sync; it is for mode = ssp or pipeline-ssp"],
        ),
        ({"staleness": 3}, {"mode": "ssp"}, []),
        ({"rounds": 3}, {"staleness": 1}, ["rounds = 3 changes nothing with mode = sync; it is for mode = federated"]),
        ({"overlap": True, "window": 1 << 23}, {}, []),
    ],
)
def test_a_setting_of_another_mode_is_told_of_once(
    explicit: dict[str, Any], script: dict[str, Any], told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(**explicit)
    for _ in range(2):
        desk.hello(nonce=desk.nonce + 1, **script)
    assert [record.getMessage() for record in caplog.records] == told


def test_a_script_that_is_refused_leaves_no_trace_in_the_job() -> None:
    desk = Desk(workers=3)
    desk.join("server")
    desk.join("worker", 0)
    desk.say(Leave(1, 2, {}))
    desk.join("worker", 1)
    desk.refused("worker", 1, mode="async")
    assert desk.state.job is not None and desk.state.job.mode == "sync"


def test_when_the_wrong_script_has_gone_again_another_may_come() -> None:
    desk = Desk()
    member = desk.join(mode="async").member
    desk.say(Leave(1, member, {}))
    assert desk.join(mode="ssp").job["mode"] == "ssp"


def test_nobody_joins_with_names_of_any_length_or_as_something_else() -> None:
    desk = Desk()
    for hello in (
        Hello(0, 1, "server", -1, "h", 1, "", ("tcp://" + "a" * 1000,), {}),
        Hello(0, 1, "server", -1, "h", 1, "", ("tcp://a:1",) * 100, {}),
        Hello(0, 1, "worker", -1, "h", 1, "m" * 1000, (), {}),
        Hello(0, 1, "king", -1, "h", 1, "", (), {}),  # type: ignore[arg-type]
    ):
        with pytest.raises(BadMessage):
            desk.say(decode(encode(hello)))
    assert not desk.state.members


def test_the_job_begins_when_all_are_there_and_they_count_from_the_first_clock() -> None:
    desk = Desk()
    desk.join()
    desk.join("server")
    assert desk.state.phase == "waiting"
    sends = desk.hello()
    views = messages(sends, View)
    assert {to for to, _ in views} == {1, 2, 3} and {view.phase for _, view in views} == {"running"}
    desk.join()
    assert [m.initial for m in desk.state.live("worker")] == [True, True, False]


def test_every_view_has_an_epoch_of_its_own() -> None:
    desk = Desk(workers=3)
    seen: dict[int, View] = {}
    for role in ("server", "worker", "worker", "worker", "worker"):
        for _, view in messages(desk.hello(role), View):
            assert seen.setdefault(view.epoch, view) == view


def test_a_job_whose_members_do_not_come_is_given_up_with_the_numbers() -> None:
    desk = Desk(workers=3, start_timeout=20.0)
    assert desk.wait(60) == []  # nobody has come: nothing to give up
    desk.join()
    desk.wait(19)
    assert desk.state.phase == "waiting"
    views = messages(desk.wait(3), View)
    assert (views[0][1].phase, views[0][1].code) == ("failed", "timeout")
    assert "waited 20 s for all members: 0 of 1 servers and 1 of 3 workers joined" in desk.state.reason
    assert desk.refused().code == "over"


# Going


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


def test_a_member_that_is_stuck_for_ever_is_dead_some_day_though_its_connection_is_alive() -> None:
    desk = Desk(heartbeat_timeout=2.0)
    a, _ = desk.fill()
    desk.wait(59, a, reach={a})
    assert not desk.state.deaths
    desk.wait(3, a, reach={a})
    assert [death["why"] for death in desk.state.deaths] == ["no heartbeat for 60 s"]


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


# The first values and the barrier


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


def test_a_barrier_shrinks_with_the_dead() -> None:
    desk = Desk()
    a, b = desk.fill()
    assert desk.say(BarrierEnter(5, a, 3)) == []
    assert Send(a, BarrierLeave(5, 3)) in desk.wait(11, b)
