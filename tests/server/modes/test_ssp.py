"""Promises of SSP: the bound holds always, for whoever is there."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ps.protocol.messages import Weights
from ps.server.modes import asynchronous
from ps.server.modes.asynchronous import clocks_done, slowest_clock
from support.lone import Lone, told


def test_a_worker_gets_leave_to_go_on_only_within_the_bound() -> None:
    lone = Lone(2, mode="ssp", staleness=2)
    assert told(lone.push(1, 0, 1.0)) == ["1 Weights"]
    assert told(lone.push(1, 1, 1.0)) == ["1 Weights"]
    assert told(lone.push(1, 2, 1.0)) == []
    assert told(lone.push(2, 0, 1.0)) == ["1 Weights", "2 Weights"]
    assert lone.value == -4.0


def test_a_push_that_comes_without_leave_is_not_applied_before_its_time() -> None:
    lone = Lone(2, mode="ssp", staleness=1)
    lone.push(1, 0, 1.0)
    lone.push(1, 1, 1.0)
    lone.push(1, 2, 1.0)  # answered to clock 1 only: a worker that does not wait
    assert lone.value == -2.0
    lone.push(2, 0, 1.0)
    assert lone.value == -4.0


def test_staleness_zero_is_lockstep() -> None:
    lone = Lone(2, mode="ssp", staleness=0)
    assert told(lone.push(1, 0, 1.0)) == []
    assert told(lone.push(2, 0, 1.0)) == ["1 Weights", "2 Weights"]


def test_the_staleness_of_a_push_is_its_lead_over_the_slowest() -> None:
    lone = Lone(2, mode="ssp", staleness=3)
    for clock in range(3):
        [reply] = lone.push(1, clock, 1.0)
        assert isinstance(reply.message, Weights) and reply.message.staleness == clock


def test_death_and_leave_of_the_slowest_release_those_who_wait() -> None:
    for go in ("lose", "retire"):
        lone = Lone(2, mode="ssp", staleness=0)
        lone.push(1, 0, 1.0)
        assert "1 Weights" in told(getattr(lone, go)(2))


def test_a_newcomer_binds_the_others_from_the_moment_it_is_told_its_clock() -> None:
    lone = Lone(2, mode="ssp", staleness=1)
    lone.push(1, 0, 1.0)
    lone.push(2, 0, 1.0)
    lone.join(3)
    assert lone.attach(3) == 1
    lone.push(1, 1, 1.0)
    lone.push(2, 1, 1.0)
    assert told(lone.push(1, 2, 1.0)) == []  # two ahead of worker 3, which has not started yet
    lone.start(3, 1)
    assert told(lone.push(3, 1, 1.0)) == ["1 Weights", "3 Weights"]


def test_a_newcomer_that_dies_before_it_starts_binds_nobody() -> None:
    lone = Lone(1, mode="ssp", staleness=0)
    lone.join(2)
    lone.attach(2)
    assert lone.push(1, 0, 1.0) == []
    assert told(lone.lose(2)) == ["1 Weights"]


@pytest.mark.parametrize("seed", range(20))
def test_who_is_the_slowest_is_always_true_though_it_is_not_looked_for_with_each_push(seed: int) -> None:
    draw = random.Random(seed)
    lone = Lone(4, mode="ssp", staleness=3)
    clocks, away, next_member = dict.fromkeys(lone.members, 0), set[int](), 5
    for _ in range(300):
        member, what = draw.choice(sorted(lone.members)), draw.random()
        if what < 0.75:
            if member not in away and member not in lone.chunk.pending:
                lone.push(member, clocks[member], 1.0)
                clocks[member] += 1
        elif what < 0.85:
            away ^= {member}
            if member in away:
                lone.retire(member)
            else:
                clocks[member] = max(clocks[member], lone.attach(member))
                lone.start(member, clocks[member])
        elif what < 0.9 and len(lone.members) > 2:
            lone.lose(member)
            away.discard(member)
        elif what < 0.95 and len(lone.members) < 8:
            lone.join(next_member)
            clocks[next_member] = lone.attach(next_member)
            lone.start(next_member, clocks[next_member])
            next_member += 1
        done = clocks_done(lone.chunk, lone.shard.participants)
        assert slowest_clock(lone.chunk, lone.shard.participants) == min(done.values(), default=None)


def test_the_slowest_is_looked_for_a_few_times_a_clock_however_many_workers_push(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = []

    def looked(*about: Any) -> dict[int, int]:
        looks.append(about)
        return clocks_done(*about)

    workers, clocks = 64, 5
    lone = Lone(workers, mode="ssp", staleness=2)
    monkeypatch.setattr(asynchronous, "clocks_done", looked)
    for clock in range(clocks):
        for member in range(1, workers + 1):
            lone.push(member, clock, 1.0)
    assert len(looks) <= clocks + 1, f"{clocks * workers} pushes"
