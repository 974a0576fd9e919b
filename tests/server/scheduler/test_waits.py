"""Promises of Waits: whoever waits in a job is shown after a second, told after five, and seldom after that."""

from __future__ import annotations

from ps.protocol.messages import BarrierEnter, Heartbeat, InitDone, InitRequest
from ps.server.scheduler.waits import TOLD, Waits, named
from support.desk import MODEL, Desk


def texts(waits: Waits, now: float) -> list[tuple[str, str, str]]:
    return [(wait["who"], wait["for"], wait["what"]) for wait in waits.shown(now)]


def test_a_job_that_is_not_complete_says_whom_it_waits_for() -> None:
    desk, waits = Desk(servers=2, workers=3), Waits()
    state = desk.state
    desk.join("server")
    assert waits.look(state, 10.0) == [] and texts(waits, 10.5) == []
    ((who, whom, _),) = texts(waits, 11.0)
    assert (who, whom) == ("the job", "1 server and 3 workers")
    assert waits.look(state, 10.0 + TOLD) == [
        "the job has waited 5 s for 1 server and 3 workers: it begins when all are here (--start-timeout)"
    ]
    assert waits.look(state, 11.0 + TOLD) == [], "seldom after that"
    assert len(waits.look(state, 10.0 + 2 * TOLD)) == 1
    desk.join("worker")
    assert waits.look(state, 30.0) == [] and texts(waits, 30.5) == [], "it waits for others by now"


def test_a_barrier_and_first_values_name_who_is_there_and_who_is_not() -> None:
    desk, waits = Desk(servers=1, workers=3), Waits()
    workers, state = desk.fill(), desk.state
    state.receive(InitRequest(1, workers[1], MODEL), 1.0)
    state.receive(InitRequest(1, workers[0], MODEL), 1.0)
    waits.look(state, 1.0)
    assert texts(waits, 2.0) == [("worker 0", "worker 1", "the model's first values")]
    state.receive(InitDone(2, workers[1]), 3.0)
    state.receive(BarrierEnter(3, workers[2], 5), 3.0)
    waits.look(state, 3.0)
    assert texts(waits, 4.0) == [("worker 2", "workers 0, 1", "a barrier")]
    for worker in workers[:2]:
        state.receive(BarrierEnter(3, worker, 5), 4.0)
    waits.look(state, 4.0)
    assert texts(waits, 9.0) == []


def test_what_members_say_that_they_wait_for_is_shown_with_clock_and_chunk() -> None:
    desk, waits = Desk(servers=1, workers=2), Waits()
    worker, state = desk.fill()[0], desk.state
    server = state.live("server")[0].member
    held = {"clock": 7, "for": [1], "seconds": 6.0, "chunk": 3, "chunks": 4}
    state.receive(Heartbeat(server, 1, {"waiting": [held]}), 20.0)
    asks = {"what": "a barrier", "for": "the scheduler", "seconds": 2.0}
    state.receive(Heartbeat(worker, 1, {"waits": [asks, {"what": "y" * 5000, "for": "z", "seconds": 1.0}]}), 20.0)
    assert waits.look(state, 20.0) == ["server 0 has waited 6 s for worker 1: clock 7, chunk 3 and 3 more"]
    shown = texts(waits, 20.0)
    assert shown[:2] == [
        ("server 0", "worker 1", "clock 7, chunk 3 and 3 more"),
        ("worker 0", "the scheduler", "a barrier"),
    ]
    assert len(shown[2][2]) <= 300, "a peer may report what it likes"
    state.receive(Heartbeat(worker, 1, {"waits": "much"}), 21.0)
    state.receive(Heartbeat(server, 1, {"waiting": []}), 21.0)
    waits.look(state, 21.0)
    assert texts(waits, 30.0) == []


def test_of_many_a_few_are_named() -> None:
    assert named("worker", range(15)) == "workers 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 5 more"
