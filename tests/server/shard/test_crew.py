"""Promises of who shares a clock: all who ask are told the same, and it is who took part when the first asked."""

from __future__ import annotations

import numpy as np

from ps.protocol.messages import ContributorsRequest
from ps.server.shard.chunk import ChunkState, Contribution, Participant
from ps.server.shard.crew import contributors, counted
from support.lone import LAYOUT


def chunk_at(version: int) -> ChunkState:
    [chunk, *_] = LAYOUT.chunks(1, 1 << 20)
    return ChunkState(chunk, np.zeros(chunk.size, chunk.dtype), {}, version=version)


def asked(chunk: ChunkState, clock: int, participants: dict[int, Participant]) -> tuple[int, ...]:
    return contributors(ContributorsRequest(1, 1, 0, clock), chunk, participants).ranks


def test_who_takes_part_when_the_first_asks_shares_the_clock_whoever_comes_or_goes_then() -> None:
    chunk = chunk_at(5)
    crew = {1: Participant(1, 2, 0), 2: Participant(2, 0, 5), 3: Participant(3, 1, 6), 4: Participant(4, 3)}
    assert asked(chunk, 5, crew) == (0, 2), "one begins later, one not at all"
    del crew[1]
    crew[5] = Participant(5, 4, 5)
    assert asked(chunk, 5, crew) == (0, 2)
    chunk.version = 6
    assert asked(chunk, 6, crew) == (0, 1, 4)


def test_who_is_at_another_clock_shares_none() -> None:
    chunk, crew = chunk_at(5), {1: Participant(1, 0, 0)}
    assert asked(chunk, 4, crew) == asked(chunk, 6, crew) == ()
    assert contributors(ContributorsRequest(1, 1, 0, 4), chunk, crew).clock == 5


def test_what_the_clock_before_was_made_of_is_told_of_that_clock_alone() -> None:
    chunk = chunk_at(5)
    chunk.tally = (4, 3, 96.0)
    said = [contributors(ContributorsRequest(1, 1, 0, clock), chunk, {}) for clock in (5, 6)]
    assert [(each.contributors, each.examples) for each in said] == [(3, 96.0), (0, 0.0)]


def test_who_skipped_a_step_did_not_contribute_to_it_and_who_had_zeros_for_a_chunk_did() -> None:
    given = [Contribution(n, n, 0, 0, examples, 1.0, None) for n, examples in enumerate((0.0, 8.0))]
    given.append(Contribution(9, 9, 0, 0, 16.0, 1.0, np.ones(1)))
    assert counted(given) == (2, 24.0)
