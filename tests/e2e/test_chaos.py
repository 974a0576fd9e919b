"""A short attack by ``scripts/chaos``: kills, stops, late joins and scheduler restarts, and nobody hangs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cluster import ROOT, Process, is_running, wait_until

CHAOS = str(ROOT / "scripts" / "chaos")


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_a_job_under_attack_goes_on_and_ends_in_agreement(command: Callable[..., Process]) -> None:
    options = ("--minutes", 0.12, "--seed", 1, "--pause", 0.6)
    run = command(CHAOS, *options, program=(sys.executable,))
    assert run.wait(150) == 0, run.text
    assert "all agree" in run.text


@pytest.mark.e2e
def test_an_attack_that_is_ended_ends_what_it_has_started(command: Callable[..., Process]) -> None:
    run = command(CHAOS, "--minutes", 5, "--seed", 1, "--pause", 0.2, program=(sys.executable,))
    run.wait_for(r" s  .*worker")  # it does harm by now, so all roles are there
    started = [int(pid) for pid in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
    assert len(started) >= 5
    run.signal(signal.SIGTERM)
    assert run.wait(60) == 128 + signal.SIGTERM, run.text
    wait_until(lambda: not any(map(is_running, started)))


@pytest.mark.e2e
@pytest.mark.long("two stages are killed in e2e/test_pipeline.py")
@pytest.mark.timeout(180)
def test_a_pipeline_whose_stages_are_killed_has_the_bits_of_one_process(command: Callable[..., Process]) -> None:
    run = command(CHAOS, "--mode", "pipeline", "--kills", 4, "--seed", 2, program=(sys.executable,))
    assert run.wait(150) == 0, run.text
    assert "all agree: the bits of one process" in run.text
