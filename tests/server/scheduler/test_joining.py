"""Promises of joining: who gets which rank, who is refused and why, whose settings hold, and when the job begins."""

from __future__ import annotations

from typing import Any

import pytest

from ps.config import JobConfig
from ps.errors import BadMessage
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Hello, Leave, View
from support.desk import Desk, messages


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


def test_a_job_on_several_hosts_is_cut_into_more_chunks_for_all_for_ever_and_one_on_its_own_host_is_not() -> None:
    apart, together = Desk(), Desk()
    together.here = True
    together.fill()
    assert together.state.setting("min_chunks") is None
    apart.here = True
    apart.join("server")
    apart.join()
    apart.here = False
    assert apart.state.view().job["min_chunks"] is None
    apart.join()
    assert apart.state.phase == "running" and apart.state.view().job["min_chunks"] == 16
    apart.restart()
    assert apart.join().rank == 2, "one that comes later, and whose script asks for nothing"
    assert apart.state.view().job["min_chunks"] == 16
    refused = apart.refused(min_chunks=3)
    assert refused.code == "config" and "asks for min_chunks = 3, but the job runs with 16" in refused.text


SHARED = ("shm:///run/a.sock", "ipc:///run/a.ipc", "tcp://10.0.0.1:7070")


def sharing(offers: tuple[str, ...] = SHARED, **explicit: Any) -> Desk:
    """A desk whose members are all in one realm of its own host."""
    desk = Desk(**explicit)
    desk.here, desk.mark, desk.offers = True, "boot pid:[1] time:[2] 4711", offers
    return desk


def test_a_job_whose_members_can_share_memory_has_large_chunks_for_all_for_ever_though_others_come_from_elsewhere() -> (
    None
):
    desk = sharing()
    desk.join("server")
    desk.join()
    assert desk.state.view().job["chunk_size"] is None
    desk.join()
    assert desk.state.phase == "running"
    desk.restart()
    desk.here, desk.mark = False, "other pid:[1] time:[2] 5"
    assert desk.join().rank == 2, "one of another host, whose script asks for nothing"
    job = desk.state.view().job
    assert [job[name] for name in ("chunk_size", "window", "min_chunks")] == [32 << 20, 64 << 20, None]
    assert "asks for chunk_size = 4096, but the job runs with 33554432" in desk.refused(chunk_size=4096).text
    assert "asks for overlap = True, but the job runs with False" in desk.refused(overlap=True).text


def test_chunks_stay_small_where_somebody_may_not_share_memory() -> None:
    without, contained, unknown = sharing(offers=SHARED[1:]), sharing(), sharing()
    unknown.mark = ""
    for desk in (without, unknown):
        desk.fill()
    contained.join("server")
    contained.join()
    contained.mark = "boot pid:[9] time:[2] 4711"
    contained.join()
    for desk in (without, contained, unknown):
        assert desk.state.phase == "running"
        assert [desk.state.view().job[name] for name in ("chunk_size", "min_chunks")] == [None, None]


@pytest.mark.parametrize("explicit", [{"chunk_size": 4096}, {"window": 16 << 20}, {"min_chunks": 2}])
def test_what_somebody_says_of_chunks_stands_wherever_members_are(explicit: dict[str, Any]) -> None:
    desk = sharing(**explicit)
    desk.fill()
    assert desk.state.job == JobConfig(servers=1, workers=2, **explicit)
