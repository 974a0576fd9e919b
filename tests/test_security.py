"""Promises of protocol/SECURITY.md: each test that it names is there, and each row has one or says that none is."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "protocol/SECURITY.md").read_text()


def test_the_tests_that_the_threat_model_names_are_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", TABLE))
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert len(named) > 20
    assert named <= there, named - there


def test_a_row_without_a_test_says_that_nothing_stops_anybody() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in TABLE.splitlines() if line.startswith("| ")
    ]
    for who, _, stops, *tests in rows[2:]:
        assert (tests and tests[0].startswith("`test_")) or stops.startswith("nothing"), who
