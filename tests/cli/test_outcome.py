"""Promises of the readable outcome: durations for people, and never more rows than one reads."""

from __future__ import annotations

from typing import Any

from ps.cli.outcome import MOST_EVALUATIONS, evaluation_table, format_time, outcome_table

SPREAD = {"mean": 2.0, "min": 1.0, "p10": 1.0, "p50": 2.0, "p90": 3.0, "max": 3.0, "n": 3}


def report(**more: Any) -> dict[str, Any]:
    found = {
        "rounds": 4,
        "virtual_s": 8.0,
        "target": None,
        "tasks": {"trained": 5, "accepted": 4, "dropped": 0, "capped": 2, "refused": {}},
        "participants": 3,
        "clients": 9,
        "polls": 12,
        "up_per_participant": SPREAD,
        "down_per_participant": {},
        "client_accuracy": SPREAD,
        "evaluations": [],
        "real": {"processes": 1, "wall_s": 2.0, "updates_per_s": 2.5},
    }
    return {**found, **more}


def cells(table: Any, column: int) -> list[str]:
    return list(table.columns[column].cells)


def test_durations_are_easy_to_read() -> None:
    shown = {seconds: format_time(seconds) for seconds in (0, 59.94, 59.96, 3599.4, 3600, 86399, 86400, 200_000)}
    assert shown == {
        0: "0.0 s",
        59.94: "59.9 s",
        59.96: "1 min 00 s",
        3599.4: "59 min 59 s",
        3600: "1 h 00 min",
        86399: "23 h 59 min",
        86400: "1 d 0 h",
        200_000: "2 d 7 h",
    }


def test_many_evaluations_are_thinned_out_and_the_last_is_shown() -> None:
    rows = [{"round": n, "virtual_s": 1.0 * n, "accuracy": n / 1000} for n in range(1000)]
    shown = cells(evaluation_table(report(evaluations=rows)), 0)
    assert shown[0] == "0" and shown[-1] == "999"
    assert len(shown) <= MOST_EVALUATIONS + 1
    assert cells(evaluation_table(report(evaluations=rows[:3])), 0) == ["0", "1", "2"]
    assert cells(evaluation_table(report()), 0) == []


def test_the_outcome_has_a_line_for_everything_that_can_be_asked() -> None:
    table = outcome_table(report(target={"accuracy": 0.9, "reached": True, "round": 3, "virtual_s": 61.0}))
    lines = dict(zip(cells(table, 0), cells(table, 1), strict=True))
    assert lines["target"] == "0.9 reached after round 3, 1 min 01 s"
    assert lines["computed"] == "5 updates in 2.0 s, 2.5 updates/s on 1 process"
    assert (
        lines["accepted"] == "4, 2 of them capped (--max-client-weight, --max-influence); refused: none; dropped out: 0"
    )
    assert lines["participants"] == "3 of 9 clients, 12 polls"
    assert lines["bytes up"] == "mean 2 B · min 1 B · p10 1 B · p50 2 B · p90 3 B · max 3 B"
    assert lines["bytes down"] == "none took part"
