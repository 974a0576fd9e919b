"""Promises of the roster: everybody is found in the same time, ranks are reused, and the gone are forgotten."""

from __future__ import annotations

import random

from ps.server.scheduler.member_record import DEAD, LEFT, MemberRecord
from ps.server.scheduler.roster import MAX_GONE, Roster


def record(roster: Roster, role: str = "worker", rank: int | None = None) -> MemberRecord:
    taken = roster.free_rank(role) if rank is None else rank
    made = MemberRecord(roster.next, 1000 + roster.next, role, taken, "host", 1, (), number=roster.next)
    roster.add(made)
    return made


def go(roster: Roster, member: MemberRecord, state: str = LEFT) -> None:
    member.state = state
    roster.remove(member)


def test_members_are_found_by_id_rank_and_nonce_until_they_are_gone() -> None:
    roster = Roster()
    server, worker = record(roster, "server"), record(roster)
    assert roster.members == {1: server, 2: worker} and list(roster) == [server, worker]
    assert roster.at("worker", 0) is worker and roster.at("worker", 1) is None and roster.known(1001) is server
    go(roster, worker, DEAD)
    assert roster.at("worker", 0) is None and roster.known(worker.nonce) is None and roster.count("worker") == 0
    assert roster.members[2] is worker
    go(roster, server)
    assert roster.last("worker") is worker and roster.last("server") is server


def test_the_lowest_free_rank_is_given_whoever_came_and_went() -> None:
    dice, roster, taken = random.Random(4), Roster(), dict[int, MemberRecord]()
    for _ in range(2000):
        if taken and dice.random() < 0.45:
            go(roster, taken.pop(dice.choice(sorted(taken))))
        elif dice.random() < 0.2:
            rank = dice.randrange(100)
            if rank not in taken:
                taken[rank] = record(roster, rank=rank)
        else:
            lowest = next(n for n in range(len(taken) + 1) if n not in taken)
            made = record(roster)
            assert made.rank == lowest
            taken[lowest] = made
        assert roster.count("worker") == len(taken)
    assert [member.rank for member in roster.live("worker")] == sorted(taken)


def test_the_gone_are_remembered_for_a_while_only() -> None:
    roster = Roster()
    first = record(roster)
    for _ in range(3 * MAX_GONE):
        go(roster, record(roster))
    assert len(roster.members) == MAX_GONE + 1 and first.member in roster.members


def test_who_was_not_heard_is_silent() -> None:
    roster = Roster()
    for seen in (5.0, 1.0, 3.0):
        record(roster).seen = seen
    go(roster, roster.members[2])
    assert [member.member for member in roster.silent(4.0)] == [3]


def test_a_restart_brings_all_back_and_ids_are_not_given_twice() -> None:
    roster = Roster()
    for _ in range(4):
        record(roster)
    go(roster, roster.members[4]), go(roster, roster.members[3])
    rows = (MemberRecord.load(row.dump(), 9.0) for row in roster.members.values())
    again = Roster.of(rows, roster.next, roster.gone)
    assert again.next == 5 and again.free_rank("worker") == 2 and again.count("worker") == 2
    assert (went := again.last("worker")) is not None and went.member == 3, "who went last is known as before"
    assert list(again.members) == [1, 2, 3, 4] and again.known(1004) is None
