"""Promise: with an enormous noise nothing is learned, in federated and in synchronous training alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.cluster import ROOT, Process
from support.libraries import demand

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]
SCRIPT = ROOT / "ps" / "examples" / "torch_opacus.py"
MODES = {"federated": ("--mode", "federated", "--rounds", 5), "sync": ()}


@pytest.mark.parametrize("mode", MODES)
def test_with_an_enormous_noise_the_accuracy_is_chance_and_with_little_it_is_not(
    forked: Callable[..., Process], mode: str
) -> None:
    demand("opacus", "the example is about it")
    found = []
    for noise in (1000, 0.3):
        options = ("-s", 1, "-w", 2, *MODES[mode], SCRIPT, "--noise", noise, "--epochs", 5)
        run = forked("run", *options, loaded=["torch", "opacus"])
        found.append(float(run.wait_for(r"test accuracy (\S+),", 90)[1]))
        assert run.wait() == 0, run.text
    assert found[0] < 0.3 < 0.7 < found[1]
