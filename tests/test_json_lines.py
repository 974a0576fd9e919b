"""Promises of records read back: what is torn, deep or no object is passed over, and no number in them overflows."""

from __future__ import annotations

import math

from ps.json_lines import amount, finite, objects, parse_object


def test_what_is_no_object_is_passed_over() -> None:
    lines = ['{"a": 1}', '{"a": ', "[1]", "[" * 100_000, "", '{"b": NaN}', b"\xff", "9" * 5000]
    assert [sorted(line) for line in objects(lines)] == [["a"], ["b"]]
    assert parse_object("3") is None


def test_numbers_are_finite_or_none() -> None:
    assert finite(3) == 3 and finite(0.5) == 0.5
    for value in (True, "3", None, [], math.nan, math.inf, 10**400, -(10**400)):
        assert finite(value) is None


def test_what_is_added_up_stays_a_number() -> None:
    assert amount({"n": 7}, "n") == 7
    for value in (1e308, -1e308, 10**400, math.nan, "7"):
        assert amount({"n": value}, "n") == 0
    assert amount({}, "n") == 0
