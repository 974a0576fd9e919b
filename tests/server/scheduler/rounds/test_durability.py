"""Promises of Durability: a heard no is one, and whoever was not heard yet is waited for."""

from __future__ import annotations

import json

import pytest

from ps.server.scheduler.rounds.durability import Durability


@pytest.mark.parametrize(("said", "is_lost"), [(None, False), (True, False), (False, True)])
def test_only_a_server_that_said_that_it_keeps_nothing_takes_its_part_with_it(said: bool | None, is_lost: bool) -> None:
    durability = Durability(1)
    if said is not None:
        durability.heard(0, said)
    assert durability.lost(0) is is_lost


def test_what_was_said_last_counts_and_is_news_once() -> None:
    durability = Durability(2)
    assert durability.heard(0, True) and not durability.heard(0, True) and durability.durable == [0]
    assert durability.heard(0, False) and durability.durable == [] and durability.unheard == {1}
    assert durability.lost(0)


def test_a_successor_without_values_is_told_from_a_server_that_had_none_yet() -> None:
    durability = Durability(1)
    assert not durability.has_lost(0)
    durability.lost(0)
    assert durability.has_lost(0) and durability.unheard == {0}
    assert durability.heard(0, True) and durability.has_lost(0), "and so is one that had them"


def test_a_restarted_scheduler_knows_what_it_heard_and_hears_all_anew() -> None:
    durability = Durability(3)
    durability.heard(0, True)
    durability.heard(1, False)
    durability.lost(2)
    again = Durability(3)
    again.load(json.loads(json.dumps(durability.dump())))
    assert again.dump() == durability.dump() and again.unheard == {0, 1, 2}
    assert again.has_lost(2) and again.lost(1) and not again.lost(0)
