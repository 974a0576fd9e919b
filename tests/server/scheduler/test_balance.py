"""Promises of the balance: all servers nearly the same bytes, few chunks move, and nothing where it is so already."""

from __future__ import annotations

import random
from collections import Counter

from ps.server.scheduler.balance import NEAR, balanced


def test_servers_have_nearly_the_same_or_differ_by_less_than_a_chunk() -> None:
    chance = random.Random(5)
    for _ in range(400):
        sizes = [chance.choice((1, 10, 64, 64, 64)) for _ in range(chance.randrange(1, 80))]
        before, ranks = range(chance.randrange(1, 6)), chance.sample(range(8), chance.randrange(1, 6))
        where = {chunk: chance.choice(before) for chunk in range(len(sizes))}
        target = balanced(sizes, where, ranks)
        load = Counter(dict.fromkeys(ranks, 0))
        for chunk, rank in target.items():
            load[rank] += sizes[chunk]
        assert set(load) == set(ranks) and len(target) == len(sizes)
        most, least = max(load, key=load.__getitem__), min(load, key=load.__getitem__)
        own = [sizes[chunk] for chunk, rank in target.items() if rank == most]
        assert load[most] <= NEAR * load[least] or load[most] - load[least] <= max(own), (load, own)
        assert target == balanced(sizes, where, ranks[::-1]), "the same for all who ask"


def test_nothing_moves_where_all_have_the_same_and_a_newcomer_gets_its_share_and_no_more() -> None:
    where = {chunk: chunk % 3 for chunk in range(60)}
    assert balanced([8] * 60, where, range(3)) == where
    target = balanced([8] * 60, where, range(4))
    moved = {chunk: rank for chunk, rank in target.items() if rank != where[chunk]}
    assert len(moved) == 15 and set(moved.values()) == {3}
    assert Counter(where[chunk] for chunk in moved) == {0: 5, 1: 5, 2: 5}


def test_all_that_a_server_had_which_is_left_out_goes_to_the_others_and_theirs_stays() -> None:
    where = {chunk: chunk % 3 for chunk in range(60)}
    target = balanced([8] * 60, where, (0, 2))
    assert all(target[chunk] == rank for chunk, rank in where.items() if rank != 1)
    assert Counter(target.values()) == {0: 30, 2: 30}
