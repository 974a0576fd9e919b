"""Promises of psctl run --on slurm with a real Slurm of three nodes on this host, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.trials import trials

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
SHORT = ("training", "failing", "interrupted", "neighbours")
"""The trials that take seconds, of which the first is tried always; scripts/engines/slurm has all."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Any:
    script = trials("slurm")
    script.FIRST_STEP = 60.0  # other tests run beside this one; the script holds it to 10 s
    if why := script.missing():
        pytest.skip(f"no Slurm: {why}")
    with script.local_slurm(tmp_path_factory.mktemp("slurm")) as found:
        yield script, found


@pytest.mark.parametrize(
    "name", [SHORT[0], *(pytest.param(name, marks=pytest.mark.long("the first is tried always")) for name in SHORT[1:])]
)
def test_trial(name: str, cluster: Any, tmp_path: Path) -> None:
    script, slurm = cluster
    script.TRIALS[name](slurm, tmp_path)
