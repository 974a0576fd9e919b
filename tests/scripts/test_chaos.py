"""scripts/chaos judges by the steps that workers make, not by what else they say."""

from __future__ import annotations

import time
from collections import Counter
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import Any

import pytest

from support.cluster import ROOT, Process


class Said(Process):
    """A worker that runs, and has printed some lines."""

    code = None

    def __init__(self, *lines: str) -> None:
        self.name, self.lines = "worker 0", list(lines)


@pytest.fixture
def chaos() -> Any:
    loader = SourceFileLoader("chaos", str(ROOT / "scripts" / "chaos"))
    module = module_from_spec(spec_from_loader("chaos", loader))  # type: ignore[arg-type]
    loader.exec_module(module)
    made = module.Chaos.__new__(module.Chaos)
    made.live, made.doomed, made.done = [], [], Counter()
    return made


ENDS = ("waiting 12 s for server 0", "was declared dead", "done after 12 s", "psctl: error: you left", "and so on")


def test_a_worker_that_says_much_as_it_ends_has_not_survived(chaos: Any) -> None:
    worker = Said("clock 1", *ENDS)
    chaos.doomed.append((time.monotonic() + 40, worker.count("clock") + 5, worker))
    chaos._look_at_the_doomed(time.monotonic())
    assert chaos.doomed and not chaos.live


def test_a_worker_that_goes_on_to_step_has_survived(chaos: Any) -> None:
    worker = Said("clock 1", *(f"clock {clock}" for clock in range(2, 7)))
    chaos.doomed.append((time.monotonic() + 40, 6, worker))
    chaos._look_at_the_doomed(time.monotonic())
    assert chaos.live == [worker] and not chaos.doomed
