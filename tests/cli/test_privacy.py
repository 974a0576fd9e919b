"""Promises of psctl privacy: it says what a budget costs before a job, and what a job has spent after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ps.cli import main
from ps.privacy import epsilon_of
from ps.server.scheduler.persistence import Persistence
from ps.server.scheduler.rounds.rounds import Rounds
from support.delta_parts import job_of
from support.desk import Desk
from support.identity import KEY
from support.table import LAYOUT


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, object]:
    assert main(["privacy", "--json", *argv]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_budget_is_told_as_noise_and_as_what_is_spent_by_then(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "eps=2,delta=1e-6,clip=3", "--rounds", "40", "--clients-per-round", "50")
    noise = found["noise"]
    assert isinstance(noise, float) and found["deviation"] == pytest.approx(noise * 3 / 50)
    after = found["after"]
    assert isinstance(after, dict) and 1.99 < after["40"] <= 2 and after["10"] < after["20"] < after["40"]


def test_noise_is_told_as_a_budget(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["privacy", "noise=4,delta=1e-6,clip=1", "--rounds", "100"]) == 0
    out = capsys.readouterr().out
    assert f"after round       100: eps = {epsilon_of(4, 100, 1e-6):.4g}" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_of_clients_that_are_drawn_each_by_itself_it_is_told_what_that_saves(
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = "eps=8,delta=1e-6,clip=1", "--rounds", "50", "--clients-per-round", "100"
    every, drawn = told(capsys, *args), told(capsys, "poisson:" + args[0], *args[1:], "--clients", "10000")
    assert float(str(drawn["deviation"])) < float(str(every["deviation"])) / 4


def test_of_noise_that_clients_add_it_is_told_what_it_is_if_all_survive(capsys: pytest.CaptureFixture[str]) -> None:
    args = "skellam:eps=8,delta=1e-6,clip=1", "--rounds", "50", "--clients-per-round", "100", "--parameters", "1000"
    all_but_few, half = (told(capsys, *args, "--secure-min", many) for many in ("80", "20"))
    assert float(str(half["deviation"])) == pytest.approx(2 * float(str(all_but_few["deviation"])))
    assert main(["privacy", *args, "--secure", "pairwise:bits=12"]) == 2
    assert "they would wrap" in capsys.readouterr().err


def test_a_budget_that_does_not_last_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["privacy", "eps=2,noise=4,delta=1e-6,clip=1", "--rounds", "100"]) == 0
    assert "then           the budget is spent: 100 rounds were asked for" in capsys.readouterr().out


def test_what_a_job_that_has_ended_has_spent_is_in_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(mode="federated", dp="eps=8,delta=1e-5,clip=1", rounds=3)
    desk.fill()
    desk.state.rounds = Rounds(
        job_of(dp="eps=8,delta=1e-5,clip=1", rounds=3), LAYOUT, 0.0, clients=int, server=int, token=KEY.token
    )
    ledger = desk.state.rounds._contributions.ledger
    desk.state.rounds.privacy.pay(ledger, [])
    file = tmp_path / "scheduler.db"
    persistence = Persistence(str(file))
    persistence.keep(desk.state, 0.0)
    persistence.close()
    found = told(capsys, "--state", str(file))
    assert found["releases"] == 1 and found["spent"] == pytest.approx(epsilon_of(float(str(found["noise"])), 1, 1e-5))


def test_a_file_of_a_job_without_a_budget_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["privacy", "--state", str(tmp_path / "none")]) == 2
    assert "holds no job with --dp" in capsys.readouterr().err


def test_a_simulation_whose_budget_is_spent_ends_with_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    about = ["--clients", "4", "--examples", "200", "--rounds", "5", "--dp", "delta=1e-5,clip=1,eps=8,noise=0.9"]
    assert main(["simulate", *about, "--processes", "1"]) == 11
    assert "the privacy budget is spent, with 2 of 5 rounds done" in capsys.readouterr().err
