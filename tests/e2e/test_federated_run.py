"""psctl run --mode federated: who is killed is started again, and the run leaves its rounds on record."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ps.protocol.query import fetch_status
from support.cluster import DIGITS, Process, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

ROUNDS = 20


def test_a_run_goes_on_after_a_servers_and_a_clients_death_and_learns(
    command: Callable[..., Process], tmp_path: Path
) -> None:
    options = ("-s", 2, "-w", 2, "--mode", "federated", "--min-clients", 2, "--rounds", ROUNDS)
    run = command("run", *options, "--run-dir", tmp_path / "run", "--heartbeat-timeout", 2, DIGITS)
    address = run.wait_for(r"scheduler at (tcp://\S+)")[1]
    wait_until(lambda: fetch_status(address).get("federated", {}).get("round", 0) >= 2)
    pid = next(server["pid"] for server in fetch_status(address)["servers"] if server["rank"] == 1)
    Process.signal_pid(pid, signal.SIGKILL)
    run.wait_for(r"server 1 failed \(killed by SIGKILL\): starting it again")
    [pid] = (worker["pid"] for worker in fetch_status(address)["workers"] if worker["rank"] == 1)
    Process.signal_pid(pid, signal.SIGKILL)
    run.wait_for(r"worker 1 failed \(killed by SIGKILL\): starting it again")
    assert run.wait() == 0, run.text
    accuracy = float(run.wait_for(r"test accuracy (\S+)")[1])
    assert accuracy > 0.95
    assert re.search(rf"{ROUNDS} of {ROUNDS} rounds · {2 * ROUNDS} contributions accepted", run.text)

    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["restarts"] == [{"process": name, "why": "killed by SIGKILL"} for name in ("server 1", "worker 1")]
    assert summary["exit_status"] == 0
    assert (summary["federated"]["round"], summary["federated"]["total_accepted"]) == (ROUNDS, 2 * ROUNDS)
    rounds = [json.loads(line) for line in (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()]
    assert [entry["round"] for entry in rounds] == list(range(ROUNDS))
    moments = [entry["t"] for entry in rounds]
    assert moments == sorted(moments)
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for entry in rounds:  # a round is published after its contributions have come, and not long after
        last = max(step["t"] for step in steps if step["clock"] == entry["round"])
        assert -0.5 < entry["t"] - last < 10


def test_a_run_whose_privacy_budget_is_spent_ends_with_the_model_that_there_is_and_a_code_of_its_own(
    command: Callable[..., Process], tmp_path: Path
) -> None:
    options = ("-s", 2, "-w", 3, "--mode", "federated", "--rounds", 5, "--dp", "eps=8,delta=1e-5,clip=1,noise=0.9")
    run = command("run", *options, "--state", tmp_path / "state", "--run-dir", tmp_path / "run", DIGITS)
    assert run.wait() == 11, run.text
    assert "the privacy budget is spent, with 2 of 5 rounds done" in run.text and "test accuracy" in run.text
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["exit_status"] == 11 and summary["federated"]["privacy"]["releases"] == 2
    rounds = (tmp_path / "run" / "rounds.jsonl").read_text()
    assert "loss" not in rounds and "accuracy" not in rounds, "nothing that clients said of themselves"
