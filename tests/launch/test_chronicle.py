"""Promises of ps.launch.chronicle: every round is on record once, with the time at which it was published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.launch.chronicle import Chronicle, last_status
from ps.protocol.layout import Layout
from ps.protocol.messages import Hello, InitDone, InitRequest, Welcome
from ps.server.scheduler.state import SchedulerState
from ps.server.scheduler.store import Store


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


def test_what_a_scheduler_has_saved_is_read_as_its_last_status(tmp_path: Path) -> None:
    state = SchedulerState({"mode": "federated", "rounds": 7}, 0.0)
    state.receive(Hello(1, 1, "server", 0, "h", 1, (), {}), 0.0)
    (welcome,) = (
        send.message
        for send in state.receive(Hello(1, 2, "worker", 0, "h", 1, (), {}), 0.0)
        if isinstance(send.message, Welcome)
    )
    layout = Layout.of({"w": np.zeros(4, np.float32)})
    state.receive(InitRequest(1, welcome.member, layout.pack()), 0.0)
    state.receive(InitDone(2, welcome.member), 0.0)
    rounds = state.federation.rounds
    assert rounds is not None
    store = Store(str(tmp_path / "job.db"))
    saved = rounds.dump()
    saved["contributions"]["ledger"]["version"] = 1
    done = {"round": 0, "at": 1.0, "accepted": 2}
    store.save(state.dump(), {"rounds": saved, "round 0": done, "round 1": {**done, "round": 1}})  # 1: of an older job
    assert last_status(str(tmp_path / "job.db"), 9.0) == {}  # the scheduler is still there
    store.close()
    found = last_status(str(tmp_path / "job.db"), 9.0)["federated"]
    assert (found["rounds"], found["phase"]) == (7, "select")
    assert found["history"] == [{"round": 0, "at": 1.0, "accepted": 2}]


@pytest.mark.parametrize("text", [None, "no database"])
def test_without_a_readable_file_there_is_no_status(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "job.db"
    if text is not None:
        path.write_text(text)
    assert last_status(str(path), 0.0) == {}
