"""Promises of leases: every batch is used, once where nobody dies, whoever comes and goes; and in sync always alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ps.errors import BadMessage
from ps.protocol.messages import Lease, LeaseRequest
from ps.server.scheduler.cells import column, each, runs_of, split
from ps.server.scheduler.leases import Among, Leases
from ps.server.scheduler.member_record import MemberRecord
from support.leasesim import LeaseSim
from support.long import cases

ALL = Among(((0, 1), (1, 2)))


def record(rank: int) -> MemberRecord:
    return MemberRecord(rank + 1, rank, "worker", rank, "h", 1, ())


def request(number: int, rank: int, wait: Any = "no", **fields: int) -> LeaseRequest:
    about = {"course": 0, "examples": 100, "batch": 10, "epochs": 2, "grid": 2, "cells": 20, "used": 0, "clock": 0}
    return LeaseRequest(number, rank + 1, **{**about, "want": 0, "wait": wait, **fields})


def asked(leases: Leases, message: LeaseRequest, among: Among = ALL) -> list[tuple[int, Lease]]:
    return [(send.to, send.message) for send in leases.ask(record(message.member - 1), message, lambda: among)]  # type: ignore[misc]


def cells(answers: list[tuple[int, Lease]]) -> list[int]:
    [(_, lease)] = answers
    return list(each(lease.runs))


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
@pytest.mark.parametrize("deaths", [False, True])
def test_every_batch_is_used_whoever_comes_leaves_and_dies_and_once_where_nobody_does(mode: str, deaths: bool) -> None:
    for seed in range(cases(15, 1000)):
        sim = LeaseSim(seed, mode, deaths=deaths)
        try:
            sim.run()
            sim.check()
        except AssertionError as error:
            raise AssertionError(f"seed={seed}: {error}") from error


@pytest.mark.parametrize("seed", [20, 3000616])
def test_a_checkpoint_has_what_one_used_that_left_before_it_was_whole_and_whose_rank_another_may_have(
    seed: int,
) -> None:
    sim = LeaseSim(seed, "sync", deaths=False)
    sim.run()
    sim.check()


def test_in_lockstep_each_worker_has_its_column_whoever_asks_first_and_however_much() -> None:
    for order in ((0, 1), (1, 0)):
        for want in (0, 3, 100):
            leases, found = Leases(), dict[int, list[int]]()
            for number in (1, 2, 3, 4):
                for rank in order:
                    [(_, lease)] = asked(leases, request(number, rank, want=want + rank))
                    found.setdefault(rank, []).extend(each(lease.runs))
            assert {rank: got[:10] for rank, got in found.items()} == {0: [*range(0, 20, 2)], 1: [*range(1, 20, 2)]}


def test_what_a_worker_that_is_gone_had_not_used_is_handed_out_anew() -> None:
    leases = Leases(lockstep=False)
    first = cells(asked(leases, request(1, 0, want=5)))
    asked(leases, request(1, 1, want=100))
    leases.hear(record(0), [[0, 2, 2, 0]], lambda: ALL)
    alone = Among(((1, 2),))
    assert leases.lose(1, lambda: alone) == []
    assert cells(asked(leases, request(2, 1, want=3), alone))[:2] == first[2:4]


def test_who_has_nothing_left_waits_until_all_is_used_or_the_rest_is_its_own() -> None:
    leases = Leases(lockstep=False)
    leases.elastic = True
    mine = cells(asked(leases, request(1, 0, cells=2, epochs=1, want=1)))
    theirs = cells(asked(leases, request(1, 1, cells=2, epochs=1, want=1)))
    assert sorted(mine + theirs) == [0, 1]
    assert asked(leases, request(2, 0, "here", cells=2, epochs=1, used=1, clock=1)) == []
    assert leases.waits() == [([0], [1])]
    [send] = leases.lose(2, lambda: Among(((0, 1),)))
    assert isinstance(send.message, Lease) and list(each(send.message.runs)) == theirs
    [(to, end)] = asked(leases, request(3, 0, "here", cells=2, epochs=1, used=2, clock=2), Among(((0, 1),)))
    assert (to, end.state) == (1, "end")


def test_in_lockstep_who_has_done_all_its_clocks_steps_aside_only_where_others_have_more() -> None:
    leases = Leases()
    mine, theirs = (cells(asked(leases, request(1, rank, cells=3, epochs=1))) for rank in (0, 1))
    assert (mine, theirs) == ([0, 2], [1])
    [(_, answer)] = asked(leases, request(2, 1, "here", cells=3, epochs=1, used=1, clock=1))
    assert answer.state == "aside", "worker 0 has a clock more, which would wait for worker 1"
    assert asked(leases, request(3, 1, "aside", cells=3, epochs=1, used=1, clock=1)) == []
    sends = asked(leases, request(2, 0, "here", cells=3, epochs=1, used=2, clock=2))
    assert [(to, lease.state) for to, lease in sends] == [(1, "end"), (2, "end")]


def test_nobody_waits_for_whoever_stands_in_a_barrier_nor_when_training_is_to_end() -> None:
    for among in (Among(ALL.live, frozenset({2})), Among(ALL.live, ending=True)):
        leases = Leases(lockstep=False, elastic=True)
        for rank in (0, 1):
            asked(leases, request(1, rank, cells=2, epochs=1, want=1))
        [(_, answer)] = asked(leases, request(2, 0, "here", cells=2, epochs=1, used=1, clock=1), among)
        assert answer.state == "end"


def test_a_request_that_is_said_again_has_the_same_answer_also_by_another_scheduler() -> None:
    leases = Leases(lockstep=False)
    message = request(1, 0, want=4)
    first = asked(leases, message)
    assert asked(leases, message) == first
    assert asked(Leases.load(json.loads(json.dumps(leases.dump()))), message) == first
    assert cells(asked(leases, request(2, 0, want=4))) != cells(first)


def test_a_call_that_is_over_is_over_for_whoever_comes_late_but_for_epochs_beyond_its_own() -> None:
    leases = Leases(lockstep=False)
    among = Among(((0, 1),))
    used, number = 0, 1
    while (answer := asked(leases, request(number, 0, "here", used=used, clock=used), among)[0][1]).state == "cells":
        used, number = used + sum(n for _, _, n in answer.runs), number + 1
    assert used == 20
    [(_, late)] = asked(leases, request(1, 1), among)
    assert late.state == "end"
    assert cells(asked(leases, request(2, 1, epochs=3, cells=30, want=2), among)) == [20, 21]


def test_too_many_calls_at_once_are_refused() -> None:
    leases = Leases()
    with pytest.raises(BadMessage, match="too many"):
        for course in range(2000):
            asked(leases, request(course + 1, 0, course=course, examples=course + 1))


def test_runs_are_split_and_dealt_without_a_cell_lost() -> None:
    runs = runs_of([1, 3, 5, 6, 7, 20])
    assert runs == [(1, 2, 3), (6, 1, 2), (20, 1, 1)]
    for at in range(8):
        before, after = split(runs, at)
        assert [*each(before), *each(after)] == [1, 3, 5, 6, 7, 20]
    for columns in range(1, 8):
        dealt = [cell for which in range(columns) for cell in each(column(runs, which, columns))]
        assert sorted(dealt) == [1, 3, 5, 6, 7, 20]
        assert list(each(column([(4, 3, 5)], 0, columns))) == [*range(4, 19, 3)][::columns]
