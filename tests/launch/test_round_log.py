"""Promises of ps.launch.round_log: every round is on record once, with the time at which it was published."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ps.launch.account import Account, teller
from ps.launch.round_log import RoundLog


def status(*rounds: int, **more: Any) -> dict[str, Any]:
    """Rounds that began at 1000.0 and were published one in every second."""
    history = [{"round": r, "at": r + 1.0, "accepted": 3} for r in rounds]
    return {"federated": {"round": len(rounds), "rounds": 5, "refused": {"nan": 1}, **more, "history": history}}


def test_rounds_have_the_unix_time_at_which_they_were_published() -> None:
    round_log = RoundLog()
    round_log.add(status(), 1000.6)
    round_log.add(status(0, 1), 1002.1)  # the tightest: it came a tenth of a second after round 1
    round_log.add(status(0, 1, 2), 1003.7)
    assert [entry["t"] for entry in round_log.rounds()] == pytest.approx([1001.1, 1002.1, 1003.1])


def test_a_scheduler_that_was_away_does_not_date_a_round_before_the_last_look_that_missed_it() -> None:
    round_log = RoundLog()
    round_log.add(status(0), 1001.0)
    round_log.add(status(0), 1060.0)  # its clock stood still for a minute
    round_log.add(status(0, 1), 1061.0)
    assert [entry["t"] for entry in round_log.rounds()] == [1001.0, 1060.0]


def test_rounds_that_the_status_has_forgotten_stay_on_record(tmp_path: Path) -> None:
    round_log = RoundLog()
    round_log.add(status(0, 1), 1002.0)
    round_log.add(status(1, 2), 1003.0)
    round_log.write(tmp_path / "rounds.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [0, 1, 2]


def test_the_outcome_is_the_latest_status_with_all_that_was_accepted() -> None:
    round_log = RoundLog()
    round_log.add(status(0), 1001.0)
    round_log.add(status(0, 1, phase="done"), 1002.0)
    assert round_log.outcome() == {
        "round": 2,
        "rounds": 5,
        "refused": {"nan": 1},
        "phase": "done",
        "total_accepted": 6,
    }


def test_a_job_that_is_not_federated_leaves_no_rounds() -> None:
    round_log = RoundLog()
    round_log.add({"phase": "running"}, 1.0)
    assert (round_log.status, round_log.rounds()) == ({}, [])


def test_rounds_that_nobody_asked_for_are_on_record_as_the_scheduler_told_of_them(tmp_path: Path) -> None:
    account = Account(tmp_path)
    tell = teller(account.fd)
    round_log = RoundLog()
    round_log.add(status(0), 1001.0)
    tell(status(0))
    tell({"federated": {**status(0, 1)["federated"], "history": status(1)["federated"]["history"]}})
    tell({"federated": {**status(0, 1)["federated"], "phase": "done", "history": []}})
    assert account.end() == {}
    tell({"workers": [{"rank": 0, "state": "left"}]})
    os.write(account.fd, b'{"torn": ')
    assert list(tmp_path.iterdir()) == [], "a file with a name could be removed"
    round_log.complete(account.read())
    assert [entry["round"] for entry in round_log.rounds()] == [0, 1]
    assert round_log.outcome()["phase"] == "done"
    assert account.end()["workers"] == [{"rank": 0, "state": "left"}]
    account.close()


def test_rounds_that_a_scheduler_has_saved_are_on_record_too() -> None:
    round_log = RoundLog()
    round_log.recall([], 1000.0)
    assert round_log.status == {}
    round_log.add(status(0), 1001.0)
    round_log.recall(status(0, 1, 2)["federated"]["history"], 1004.0)
    assert [entry["round"] for entry in round_log.rounds()] == [0, 1, 2]
    assert (round_log.outcome()["round"], round_log.outcome()["refused"]) == (3, {"nan": 1})


def test_a_scheduler_without_a_launcher_tells_nobody() -> None:
    teller(None)({"round": 1})


def test_an_account_on_a_full_disk_is_no_error() -> None:
    with Path("/dev/full").open("wb") as full:
        teller(full.fileno())({"round": 1})
