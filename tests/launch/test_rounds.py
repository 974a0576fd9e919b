"""Promises of ps.launch.rounds: where a federated job is, and what it refused, in a few words."""

from __future__ import annotations

from ps.launch.rounds import ending, progress

STATUS = {"round": 3, "rounds": 10, "accepted": 2, "goal": 4, "refused": {"norm": 1, "nan": 2}, "capped": 1}


def test_the_round_under_way_is_counted_from_one_and_refusals_are_named_by_reason() -> None:
    assert progress(STATUS) == "round 4 of 10 · 2 of 4 accepted · refused 2 × nan, 1 × norm · 1 capped"


def test_what_did_not_happen_is_not_said() -> None:
    assert progress({"round": 0, "rounds": 2, "goal": 1, "abandoned": 0}) == "round 1 of 2 · 0 of 1 accepted"


def test_when_all_rounds_are_done_none_is_under_way() -> None:
    assert progress({**STATUS, "round": 10}).startswith("10 of 10 rounds · ")


def test_the_end_counts_all_that_was_accepted() -> None:
    outcome = {"round": 9, "rounds": 10, "total_accepted": 36, "refused": {"late": 1}, "abandoned": 2, "spare": 9}
    assert ending(outcome) == "9 of 10 rounds · 36 contributions accepted · 9 spare · refused 1 × late · 2 abandoned"


def test_where_who_was_drawn_is_told_to_nobody_no_number_is_said_that_is_none() -> None:
    assert (
        ending({"round": 6, "rounds": 6, "privacy": {"sampled": True}})
        == "6 of 6 rounds · who was in them is told to nobody"
    )
