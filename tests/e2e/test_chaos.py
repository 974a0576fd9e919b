"""A short attack by ``scripts/chaos``: kills, stops, late joins and scheduler restarts, and nobody hangs."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from cluster import ROOT, Process

CHAOS = str(ROOT / "scripts" / "chaos")


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_a_job_under_attack_goes_on_and_ends_in_agreement(command: Callable[..., Process]) -> None:
    options = ("--minutes", 0.12, "--seed", 1, "--pause", 0.6)
    run = command(CHAOS, *options, program=(sys.executable,))
    assert run.wait(150) == 0, run.text
    assert "all agree" in run.text
