"""Promises of ps.launch.chronicle: every round is on record once, with the time at which it was published."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ps.launch.account import Account, teller
from ps.launch.chronicle import Chronicle


def status(*rounds: int, **more: Any) -> dict[str, Any]:
    """Rounds that began at 1000.0 and were published one in every second."""
    history = [{"round": r, "at": r + 1.0, "accepted": 3} for r in rounds]
    return {"federated": {"round": len(rounds), "rounds": 5, "refused": {"nan": 1}, **more, "history": history}}


def test_rounds_have_the_unix_time_at_which_they_were_published() -> None:
    chronicle = Chronicle()
    chronicle.add(status(), 1000.6)
    chronicle.add(status(0, 1), 1002.1)  # the tightest: it came a tenth of a second after round 1
    chronicle.add(status(0, 1, 2), 1003.7)
    assert [entry["t"] for entry in chronicle.rounds()] == pytest.approx([1001.1, 1002.1, 1003.1])


def test_a_scheduler_that_was_away_does_not_date_a_round_before_the_last_look_that_missed_it() -> None:
    chronicle = Chronicle()
    chronicle.add(status(0), 1001.0)
    chronicle.add(status(0), 1060.0)  # its clock stood still for a minute
    chronicle.add(status(0, 1), 1061.0)
    assert [entry["t"] for entry in chronicle.rounds()] == [1001.0, 1060.0]


def test_rounds_that_the_status_has_forgotten_stay_on_record(tmp_path: Path) -> None:
    chronicle = Chronicle()
    chronicle.add(status(0, 1), 1002.0)
    chronicle.add(status(1, 2), 1003.0)
    chronicle.write(tmp_path / "rounds.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [0, 1, 2]


def test_the_outcome_is_the_latest_status_with_all_that_was_accepted() -> None:
    chronicle = Chronicle()
    chronicle.add(status(0), 1001.0)
    chronicle.add(status(0, 1, phase="done"), 1002.0)
    assert chronicle.outcome() == {
        "round": 2,
        "rounds": 5,
        "refused": {"nan": 1},
        "phase": "done",
        "total_accepted": 6,
    }


def test_a_job_that_is_not_federated_leaves_no_rounds() -> None:
    chronicle = Chronicle()
    chronicle.add({"phase": "running"}, 1.0)
    assert (chronicle.status, chronicle.rounds()) == ({}, [])


def test_rounds_that_nobody_asked_for_are_on_record_as_the_scheduler_told_of_them(tmp_path: Path) -> None:
    account = Account(tmp_path)
    tell = teller(account.fd)
    chronicle = Chronicle()
    chronicle.add(status(0), 1001.0)
    tell(status(0))
    tell({"federated": {**status(0, 1)["federated"], "history": status(1)["federated"]["history"]}})
    tell({"federated": {**status(0, 1)["federated"], "phase": "done", "history": []}})
    assert account.members() == []
    tell({"workers": [{"rank": 0, "state": "left"}]})
    os.write(account.fd, b'{"torn": ')
    assert list(tmp_path.iterdir()) == [], "a file with a name could be removed"
    chronicle.complete(account.read())
    assert [entry["round"] for entry in chronicle.rounds()] == [0, 1]
    assert chronicle.outcome()["phase"] == "done"
    assert account.members() == [{"rank": 0, "state": "left"}]
    account.close()


def test_rounds_that_a_scheduler_has_saved_are_on_record_too() -> None:
    chronicle = Chronicle()
    chronicle.recall({}, 1000.0)
    assert chronicle.status == {}
    chronicle.add(status(0), 1001.0)
    chronicle.recall({"history": status(0, 1, 2)["federated"]["history"]}, 1004.0)
    assert [entry["round"] for entry in chronicle.rounds()] == [0, 1, 2]
    assert (chronicle.outcome()["round"], chronicle.outcome()["refused"]) == (3, {"nan": 1})


def test_a_scheduler_without_a_launcher_tells_nobody() -> None:
    teller(None)({"round": 1})


def test_an_account_on_a_full_disk_is_no_error() -> None:
    with Path("/dev/full").open("wb") as full:
        teller(full.fileno())({"round": 1})
