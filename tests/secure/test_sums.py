"""Promises of the sums that a client was in: they are remembered, and the scheduler asks for none that is refused."""

from __future__ import annotations

import json
import random

import pytest

from ps.secure.sums import FEWEST, SumHistory

ROUND = 4


def people(*numbers: int) -> dict[int, bytes]:
    return {number: bytes([number]) * 32 for number in numbers}


def told(*sets: dict[int, bytes]) -> SumHistory:
    history = SumHistory()
    for each in sets:
        history.note(ROUND, set(each.values()))
    return history


@pytest.mark.parametrize(
    ("before", "here", "out"),
    [
        ([], people(1, 2, 3), set()),
        ([people(1, 2, 3, 4)], people(1, 2, 3, 4), set()),
        ([people(1, 2, 3, 4)], people(5, 6, 7), set()),
        ([people(1, 2, 3, 4)], people(1, 2, 3, 4, 5), {5}),
        ([people(1, 2, 3, 4, 5, 6)], people(1, 2, 3, 4, 5), {1, 2}),
        ([people(1, 2, 3, 4, 5, 6), people(3, 4, 5)], people(1, 2, 3, 4, 5), {1, 2}),
        ([people(1, 2, 3, 4)], people(1, 2, 3), None),
        ([people(1, 2, 3)], people(1, 2, 4), None),
    ],
)
def test_as_few_as_possible_are_left_out_so_that_a_sum_is_not_refused(
    before: list[dict[int, bytes]], here: dict[int, bytes], out: set[int] | None
) -> None:
    assert told(*before).left_out(ROUND, here, FEWEST) == out


def test_who_is_left_out_makes_the_sum_of_the_others_one_that_clients_take() -> None:
    chance = random.Random(1)
    for _ in range(300):
        sets = [people(*chance.sample(range(9), chance.randint(3, 9))) for _ in range(chance.randint(1, 3))]
        here = people(*chance.sample(range(9), chance.randint(3, 9)))
        history = told(*sets)
        out = history.left_out(ROUND, here, FEWEST)
        if out is not None:
            rest = {identity for task, identity in here.items() if task not in out}
            assert len(rest) >= FEWEST and not history.refusal(ROUND, rest)


def test_among_a_thousand_clients_who_is_left_out_is_found_at_once() -> None:
    history = told({number: number.to_bytes(32, "big") for number in range(1000)})
    out = history.left_out(ROUND, {number: number.to_bytes(32, "big") for number in range(1, 1000)}, 500)
    assert out == {1, 2}


def test_what_is_kept_is_kept_before_it_is_true_of_others_and_read_again() -> None:
    kept: list[str] = []
    history = SumHistory(lambda values: kept.append(json.dumps(values)))
    history.note(ROUND, set(people(1, 2, 3, 4).values()))
    history.note(ROUND, set(people(1, 2, 3, 4).values()))
    assert len(kept) == 1, "the same sum again says nothing new"
    successor = SumHistory()
    successor.load(json.loads(kept[0]))
    assert "differs by 1" in successor.refusal(ROUND, set(people(1, 2, 3).values()))
    assert "differ by 1" in successor.warning(ROUND + 1, set(people(1, 2, 3).values()))
    history.note(ROUND + 2, set(people(5, 6, 7).values()))
    assert str(ROUND) not in json.loads(kept[-1]), "what is over is forgotten"
