"""A short attack by ``scripts/chaos --mode federated``: everybody is killed and stopped, every round counts once."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from support.cluster import ROOT, Process

CHAOS = str(ROOT / "scripts" / "chaos")


@pytest.mark.e2e
@pytest.mark.timeout(150)
def test_a_federated_job_under_attack_plays_all_its_rounds(command: Callable[..., Process]) -> None:
    options = ("--mode", "federated", "--minutes", 0.12, "--rounds", 15, "--seed", 2, "--pause", 0.6)
    run = command(CHAOS, *options, program=(sys.executable,))
    assert run.wait(130) == 0, run.text
    assert "all agree: 15 rounds, each of which has counted once" in run.text
