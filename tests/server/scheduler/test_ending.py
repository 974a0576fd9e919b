"""Promises of an early end: one clock for all in sync mode, at once elsewhere, and nobody is waited for who is gone."""

from __future__ import annotations

import random

import pytest

from ps.errors import BadMessage
from ps.protocol.messages import (
    Assign,
    Finished,
    Heartbeat,
    InitDone,
    InitRequest,
    Leave,
    Poll,
    StopReady,
    StopRequest,
    View,
    Wait,
)
from ps.server.scheduler.journal import Journal
from ps.server.scheduler.status import snapshot
from ps.worker.stop_point import StopPoint
from support.desk import MODEL, Desk, messages


def word(desk: Desk) -> tuple[str, int, str]:
    view = desk.state.view()
    return view.stop, view.clock, view.why


def test_in_sync_mode_all_are_asked_first_and_end_beyond_what_anybody_has_begun() -> None:
    desk = Desk(workers=3)
    a, b, c = desk.fill()
    views = messages(desk.say(StopRequest(b, 20, "good enough")), View)
    assert {view.stop for _, view in views} == {"asked"} and {a, b, c} <= {to for to, _ in views}
    desk.say(StopReady(b, 20))
    desk.say(StopReady(a, 21))
    assert word(desk) == ("asked", 21, "good enough")
    told = messages(desk.say(StopReady(c, 23)), View)
    assert {(view.stop, view.clock, view.why) for _, view in told} == {("decided", 23, "good enough")}


def test_one_step_follows_that_others_may_have_begun() -> None:
    desk = Desk(workers=2)
    a, b = desk.fill()
    desk.say(StopRequest(a, 0, "at the very beginning"))
    for worker in (a, b):
        desk.say(StopReady(worker, 0))
    assert word(desk) == ("decided", 1, "at the very beginning")


@pytest.mark.parametrize("mode", ["async", "ssp"])
def test_in_modes_without_lockstep_each_ends_where_it_is(mode: str) -> None:
    desk = Desk(workers=2, mode=mode)
    a, _ = desk.fill()
    desk.say(StopRequest(a, 20, "enough"))
    assert word(desk) == ("decided", 0, "enough")


def test_the_first_reason_counts_and_who_comes_late_is_told() -> None:
    desk = Desk(workers=2)
    a, b = desk.fill()
    desk.say(StopRequest(a, 5, "mine"))
    desk.say(StopRequest(b, 7, "mine!"))
    for worker in (a, b):
        desk.say(StopReady(worker, 5))
    desk.say(StopRequest(b, 7, "again"))
    assert word(desk) == ("decided", 6, "mine")
    late = desk.join()
    [view] = [view for to, view in messages(desk.wait(1), View) if to == late.member] or [desk.state.view()]
    assert (view.stop, view.clock) == ("decided", 6)


def test_a_death_ends_the_wait_and_what_the_dead_had_begun_counts() -> None:
    desk = Desk(workers=3)
    a, b, c = desk.fill()
    desk.say(StopRequest(a, 5, "enough"))
    desk.say(StopReady(a, 5))
    desk.say(StopReady(b, 9))
    desk.wait(15, b, c)
    assert desk.state.count("worker") == 1
    assert word(desk) == ("decided", 9, "enough")


def test_who_says_it_and_is_gone_is_heard() -> None:
    desk = Desk(workers=2)
    a, b = desk.fill()
    desk.say(StopRequest(a, 5, "last words"))
    desk.say(Leave(1, a, {}))
    desk.say(StopReady(b, 5))
    assert word(desk) == ("decided", 6, "last words")
    desk.say(Leave(1, b, {}))
    assert desk.state.phase == "ended"


@pytest.mark.parametrize("decided", [False, True])
def test_a_restarted_scheduler_goes_on_with_it(decided: bool) -> None:
    desk = Desk(workers=2)
    a, b = desk.fill()
    desk.say(StopRequest(a, 5, "enough"))
    desk.say(StopReady(a, 5))
    if decided:
        desk.say(StopReady(b, 8))
    desk.restart()
    assert word(desk) == (("decided", 8, "enough") if decided else ("asked", 6, "enough"))
    desk.say(StopReady(b, 8))  # said with each heartbeat until it is decided
    desk.say(StopReady(a, 5))
    assert word(desk) == ("decided", 8, "enough")


def test_only_workers_end_training_and_no_clock_counts_that_nobody_can_have_reached() -> None:
    desk = Desk(workers=1)
    server = desk.join("server").member
    worker = desk.join().member
    desk.say(Heartbeat(server, desk.state.epoch, {"clock": 7}))
    with pytest.raises(BadMessage, match="comes from workers"):
        desk.say(StopRequest(server, 5, "a server's wish"))
    with pytest.raises(BadMessage, match="an end of training at clock 9007199254740992"):
        desk.say(StopRequest(worker, 1 << 53, "far away"))
    assert word(desk) == ("", 0, "")


def test_the_reason_is_a_bounded_text_in_the_status_and_in_the_journal() -> None:
    desk = Desk(workers=1, mode="async")
    [worker] = desk.fill()
    journal = Journal()
    journal.look(desk.state, 0.0)
    desk.say(StopRequest(worker, 5, "\x1b]0;owned\x07" + "x" * 1500))
    [line] = journal.look(desk.state, 0.0)
    assert line.startswith("training ends at each worker's next step: ") and "\x1b" not in line and len(line) < 500
    assert line.endswith("(worker 0 (host, pid 2))")
    assert journal.look(desk.state, 1.0) == []
    stop = snapshot(desk.state, 0.0, address="", uptime=0.0, rejected={})["stop"]
    assert (stop["decided"], stop["clock"], stop["by"]) == (True, 0, "worker 0 (host, pid 2)")


def test_a_federated_job_ends_with_the_round_under_way() -> None:
    desk = Desk(mode="federated", rounds=9, workers=1)
    [client] = desk.fill()
    desk.say(StopReady(client, 5))  # which nobody asked for
    assert word(desk) == ("", 0, "")
    desk.say(StopRequest(client, 0, "before there is a model"))
    assert word(desk) == ("decided", 1, "before there is a model")
    desk.say(InitRequest(1, client, MODEL))
    desk.say(InitDone(2, client))
    desk.restart()
    assert desk.state.rounds is not None and desk.state.rounds.job.rounds == 1
    answers = desk.say(Poll(3, client, 0, {})) + desk.wait(3)
    assert not messages(answers, Finished) and (messages(answers, Assign) or messages(answers, Wait))


def test_whatever_the_order_no_worker_of_a_lockstep_passes_the_clock_at_which_the_others_end() -> None:
    """The production's both sides, with views and answers that take any time, and steps in between."""
    for seed in range(300):
        draw = random.Random(seed)
        desk = Desk(workers=draw.randint(1, 4))
        ids = desk.fill()
        points, clocks, waits = {i: StopPoint() for i in ids}, dict.fromkeys(ids, 0), dict.fromkeys(ids, False)
        mail: list[tuple[int, View]] = []
        asks = {draw.choice(ids): draw.randint(0, 5) for _ in range(draw.randint(1, 2))}
        ended: dict[int, int] = {}
        for _ in range(3000):
            member = draw.choice(ids)
            match draw.choice(("step", "step", "view", "say")):
                case "step" if member not in ended:
                    if asks.get(member) == clocks[member]:
                        del asks[member]
                        request = points[member].wish(clocks[member], f"worker {member}")
                        desk.say(StopRequest(member, request.clock, request.reason))
                        waits[member] = True  # until it is decided, as kv.stop does
                    if waits[member] and points[member].end is None:
                        pass
                    elif clocks[member] > min(clocks[other] for other in ids if other not in ended):
                        pass  # the clock under way lacks somebody
                    elif (verdict := points[member].begin(clocks[member])) is False:
                        ended[member] = clocks[member]
                    elif verdict:
                        clocks[member] += 1
                case "view":
                    mail.append((member, desk.state.view()))
                    to, view = mail.pop(draw.randrange(len(mail)))
                    points[to].hear(view)
                case "say":
                    for message in points[member].say(member):
                        desk.say(message)
            if len(ended) == len(ids):
                break
        assert len(ended) == len(ids) and len(set(ended.values())) == 1, (seed, ended, clocks)
