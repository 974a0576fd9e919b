"""Promises of psctl run --on ray with a real Ray of a head and three raylets on this host, where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore"),  # those that Ray has of its own
]
FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "engines"
SHORT = ("training", "failing", "no_room", "actor_killed")
"""The trials that take seconds, of which the first is tried always; scripts/engines/ray has all."""


def loaded() -> ModuleType:
    """Return the script as a module."""
    loader = SourceFileLoader("ray_trials", str(FOLDER / "ray"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cluster() -> Any:
    trials = loaded()
    trials.FIRST_STEP = 120.0  # other tests run beside this one; the script holds it to 10 s
    if why := trials.missing():
        pytest.skip(f"no Ray: {why}")
    with trials.local_ray() as found:
        yield trials, found


@pytest.mark.parametrize(
    "name", [SHORT[0], *(pytest.param(name, marks=pytest.mark.long("the first is tried always")) for name in SHORT[1:])]
)
def test_trial(name: str, cluster: Any, tmp_path: Path) -> None:
    trials, ray = cluster
    trials.TRIALS[name](ray, tmp_path)
