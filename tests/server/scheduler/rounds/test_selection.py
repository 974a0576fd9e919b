"""Promises of the selection: chance is the seed's alone, and nobody is drawn twice or forgotten."""

from __future__ import annotations

import random
from collections import Counter

from ps.server.scheduler.rounds.selection import Offer, Selection


def waiting(ranks: list[int], seed: int = 0) -> Selection:
    selection = Selection(seed)
    for rank in ranks:
        selection.offer(Offer(100 + rank, 1, rank))
    return selection


def drawn(selection: Selection, count: int, busy: frozenset[int] = frozenset(), occasion: str = "1") -> list[int]:
    return [offer.rank for offer in selection.draw(count, busy, occasion)]


def test_who_is_drawn_does_not_depend_on_who_came_first() -> None:
    ranks = list(range(20))
    assert drawn(waiting(ranks), 5) == drawn(waiting(ranks[::-1]), 5)
    assert drawn(waiting(ranks), 5) != drawn(waiting(ranks), 5, occasion="2")
    assert drawn(waiting(ranks), 5) != drawn(waiting(ranks, seed=1), 5)


def test_those_drawn_wait_no_more_and_the_busy_go_on_waiting() -> None:
    selection = waiting(list(range(6)))
    assert sorted(drawn(selection, 99, frozenset({0, 3}))) == [1, 2, 4, 5]
    assert [offer.rank for offer in selection.dismiss()] == [0, 3]
    assert len(selection) == 0 and drawn(selection, 3) == []


def test_a_repeated_offer_is_the_same_client_with_a_new_request() -> None:
    selection = waiting([1, 2])
    selection.offer(Offer(101, 9, 1))
    assert [(offer.member, offer.request) for offer in selection.dismiss()] == [(102, 1), (101, 9)]


def test_whatever_came_before_a_draw_is_a_sample_of_the_free_in_their_order() -> None:
    chance, selection, here = random.Random(3), Selection(7), {1000}
    selection.offer(Offer(1000, 1, 99))
    for occasion in range(300):
        member = chance.randrange(60)
        match chance.randrange(6):
            case 0:
                selection.withdraw(member)
                here.discard(member)
            case 1:
                here -= {offer.member for offer in selection.take(lambda rank: rank % 3 == 0, {99})}
                selection.recall()
            case _:
                selection.offer(Offer(member, occasion, 60 - member))
                here.add(member)
        busy = frozenset(chance.sample(range(60), 5))
        free = sorted(((60 - each) if each < 60 else 99, each) for each in here)
        free = [(rank, each) for rank, each in free if rank not in busy]
        expected = random.Random(f"7/{occasion}").sample(free, min(2, len(free))) if occasion % 5 == 0 else []
        found = list(selection.draw(2, busy, str(occasion))) if occasion % 5 == 0 else []
        assert [(offer.rank, offer.member) for offer in found] == expected
        assert selection.has_free(busy) == any(each not in expected for each in free)
        here -= {offer.member for offer in found}
        assert len(selection) == len(here)


def test_who_withdraws_is_not_drawn_and_none_are_drawn_for_no_places() -> None:
    selection = waiting([1, 2, 3])
    selection.withdraw(102)
    selection.withdraw(999)
    assert drawn(selection, 0) == drawn(selection, -4) == []
    assert sorted(drawn(selection, 5)) == [1, 3]


def test_over_many_rounds_every_client_is_drawn_about_as_often() -> None:
    counts: Counter[int] = Counter()
    for occasion in range(2000):
        counts.update(drawn(waiting(list(range(10))), 3, occasion=str(occasion)))
    assert set(counts) == set(range(10)) and all(500 < count < 700 for count in counts.values())


def test_whatever_its_rank_a_client_is_drawn_first_as_often_as_last() -> None:
    first: Counter[int] = Counter()
    for occasion in range(2000):
        first[drawn(waiting(list(range(10))), 10, occasion=str(occasion))[0]] += 1
    assert all(140 < first[rank] < 260 for rank in range(10))
