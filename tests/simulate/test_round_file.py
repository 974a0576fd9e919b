"""Promises of round files: a round is there once it has closed, whatever ends the simulation, or fills the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ps.cli import main
from ps.errors import UsageError
from ps.server.scheduler.rounds import rounds
from ps.simulate.round_file import RoundFile
from ps.simulate.simulation import Moment, Scenario, simulate
from support.federation import examples

JOB = {"mode": "federated", "workers": 6, "clients_per_round": 3, "rounds": 4}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_round_is_in_the_file_as_soon_as_it_has_closed(tmp_path: Path) -> None:
    path, scenario = tmp_path / "rounds.jsonl", Scenario(JOB, examples(), processes=1, eval_every=2)
    seen = []
    with RoundFile(path, scenario, print) as file:

        def watch(moment: Moment) -> None:
            file.add(moment)
            seen.append(lines(path)[-1])

        outcome = simulate(scenario, watch)
    first, *rest = lines(path)
    assert first["job"] == JOB
    assert rest == [*seen, {"ended": "finished"}]
    assert "round" not in seen[0] and [line["round"] for line in seen[1:]] == [0, 1, 2, 3]
    assert [{key: line[key] for key in entry} for line, entry in zip(seen[1:], outcome.history, strict=True)] == (
        outcome.history
    )
    assert [(i, line["virtual_s"], line["accuracy"]) for i, line in enumerate(seen) if "accuracy" in line] == (
        outcome.evaluations
    )


def test_no_round_is_lost_that_the_scheduler_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "MOST_HISTORY", 2)
    outcome = simulate(Scenario(JOB, examples(), processes=1))
    assert [entry["round"] for entry in outcome.history] == [0, 1, 2, 3]


@pytest.mark.parametrize(("error", "ended"), [(KeyboardInterrupt(), "interrupted"), (OSError("gone"), "gone")])
def test_a_file_says_how_its_simulation_ended(tmp_path: Path, error: BaseException, ended: str) -> None:
    with pytest.raises(type(error)), RoundFile(tmp_path / "r", Scenario(JOB, {}), print) as file:
        file.add(Moment(1, 2.0, 3, None, ({"round": 0},)))
        raise error
    assert lines(tmp_path / "r")[1:] == [{"round": 0, "virtual_s": 2.0, "updates": 3}, {"ended": ended}]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_costs_lines_and_says_so_and_no_simulation() -> None:
    said: list[str] = []
    with RoundFile("/dev/full", Scenario(JOB, {}), said.append) as file:
        file.add(Moment(0, 0.0, 0, None))
    assert len(said) == 1 and "bytes of /dev/full were lost: No space left on device" in said[0]


def test_a_file_that_cannot_be_is_refused_before_anything_is_simulated(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write the rounds to .*nowhere/r: No such file"):
        RoundFile(tmp_path / "nowhere" / "r", Scenario(JOB, {}), print)


def test_psctl_simulate_records_what_it_is_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--clients", "4", "--rounds", "2", "--examples", "200", "--processes", "1", "--json", "-"]
    assert main(["simulate", *small, "--record", str(tmp_path / "r")]) == 0
    history = json.loads(capsys.readouterr().out)["history"]
    assert [line["round"] for line in lines(tmp_path / "r") if "round" in line] == [row["round"] for row in history]
