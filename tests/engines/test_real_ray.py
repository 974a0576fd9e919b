"""Promises of psctl run --on ray with a real Ray of a head and three raylets on this host, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.trials import trials

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore"),  # those that Ray has of its own
]
SHORT = ("training", "failing", "no_room", "actor_killed")
"""The trials that take seconds, of which the first is tried always; scripts/engines/ray has all."""


@pytest.fixture(scope="module")
def cluster() -> Any:
    script = trials("ray")
    script.FIRST_STEP = 120.0  # other tests run beside this one; the script holds it to 10 s
    if why := script.missing():
        pytest.skip(f"no Ray: {why}")
    with script.local_ray() as found:
        yield script, found


@pytest.mark.parametrize(
    "name", [SHORT[0], *(pytest.param(name, marks=pytest.mark.long("the first is tried always")) for name in SHORT[1:])]
)
def test_trial(name: str, cluster: Any, tmp_path: Path) -> None:
    script, ray = cluster
    script.TRIALS[name](ray, tmp_path)
