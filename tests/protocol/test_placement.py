"""Promises of placements: what is said of where chunks are is what was meant, in few rows, and bounded."""

from __future__ import annotations

import random

from ps.protocol.placement import holder, packed, unpacked
from ps.protocol.ranges import MOST_CHUNKS


def test_any_placement_is_what_it_was_after_its_way() -> None:
    chance = random.Random(3)
    for _ in range(300):
        chunks, servers = chance.randrange(1, 60), chance.randrange(1, 6)
        where = {chunk: chance.randrange(servers) for chunk in range(chunks) if chance.random() < 0.6}
        assert unpacked(packed(where)) == where


def test_chunks_of_a_server_that_lie_evenly_are_one_row() -> None:
    where = dict.fromkeys(range(1, 3000, 3), 7)
    assert packed(where) == ((7, 1, 3, 1000),)
    assert packed({5: 2}) == ((2, 5, 0, 1),)
    assert packed({}) == ()


def test_what_nobody_says_is_bounded() -> None:
    assert len(unpacked(((1, MOST_CHUNKS - 2, 1, 1000),))) == 2
    assert unpacked(((1, 4, 0, 1000),)) == {4: 1}


def test_a_chunk_is_where_the_layout_has_it_unless_it_has_moved() -> None:
    assert [holder(chunk, 3, {4: 0}) for chunk in range(6)] == [0, 1, 2, 0, 0, 2]
