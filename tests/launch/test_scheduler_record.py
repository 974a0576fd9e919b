"""Promise of a scheduler's own record: its rounds, and what its members came to, as of psctl run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ps.launch.scheduler_record import SchedulerRecord


def round_entry(number: int) -> dict[str, Any]:
    return {"round": number, "at": float(number), "seconds": 1.0, "selected": 3, "accepted": 2}


def test_the_end_leaves_the_rounds_and_a_summary(tmp_path: Path) -> None:
    record = SchedulerRecord(tmp_path)
    rounds = {"round": 1, "rounds": 2, "algorithm": "fedavg"}
    record.tell({"federated": {**rounds, "history": [round_entry(0)]}})
    worker = {"rank": 0, "state": "left", "steps": 12, "samples": 96, "bytes_up": 5}
    rows = [{**worker, "measured": {"accuracy": 0.5}, "measured_clock": 2}, {**worker, "rank": 1, "state": "dead"}]
    deaths = [{"role": "worker", "rank": 1, "why": "no heartbeat for 10 s", "clock": 1}]
    end = {"job": {"mode": "federated", "servers": 1}, "phase": "ended", "workers": rows, "deaths": deaths}
    record.tell({**end, "federated": {**rounds, "round": 2, "history": [round_entry(0), round_entry(1)]}})
    lines = (tmp_path / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [0, 1]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["mode"], summary["total_steps"], summary["samples"]) == ("federated", 24, 192)
    assert summary["measured"] == {"clock": 2, "rank": 0, "metrics": {"accuracy": 0.5}}
    assert summary["deaths"] == deaths and summary["exit_status"] == 0


def test_a_job_that_is_not_federated_has_no_rounds_and_one_that_failed_says_why(tmp_path: Path) -> None:
    SchedulerRecord(tmp_path).tell(
        {"job": {"mode": "sync"}, "phase": "failed", "reason": "server 0 died", "workers": []}
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["exit_status"], summary["reason"]) == (4, "server 0 died")
    assert not (tmp_path / "rounds.jsonl").exists()
