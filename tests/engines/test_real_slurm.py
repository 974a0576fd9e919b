"""Promises of psctl run --on slurm with a real Slurm of three nodes on this host, where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "engines"
SHORT = ("training", "failing", "interrupted", "neighbours")
"""The trials that take seconds, of which the first is tried always; scripts/engines/slurm has all."""


def loaded() -> ModuleType:
    """Return the script as a module."""
    loader = SourceFileLoader("slurm_trials", str(FOLDER / "slurm"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Any:
    trials = loaded()
    trials.FIRST_STEP = 60.0  # other tests run beside this one; the script holds it to 10 s
    if why := trials.missing():
        pytest.skip(f"no Slurm: {why}")
    with trials.local_slurm(tmp_path_factory.mktemp("slurm")) as found:
        yield trials, found


@pytest.mark.parametrize(
    "name", [SHORT[0], *(pytest.param(name, marks=pytest.mark.long("the first is tried always")) for name in SHORT[1:])]
)
def test_trial(name: str, cluster: Any, tmp_path: Path) -> None:
    trials, slurm = cluster
    trials.TRIALS[name](slurm, tmp_path)
