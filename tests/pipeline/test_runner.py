"""Promise: over channels that hold next to nothing, and whatever comes first, a step comes to its end: with the bits of
all stages taking turns."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from ps.pipeline.local import run
from ps.pipeline.runner import LABELS
from support.pipeline_links import run_over_links
from support.pipeline_step import DRAWN, model, workers


@settings(max_examples=40)
@given(**DRAWN)
def test_a_step_ends_over_every_window_with_the_same_bits(
    stages: int, schedule: str, microbatches: int, window: int, frozen: int, tied: bool, seed: int
) -> None:
    pipe = model(stages, schedule, tied=tied)
    frozen = 0 if tied else frozen
    check = microbatches > 1
    runners, home, fed = workers(pipe, microbatches, frozen=frozen, check=check)
    found = run_over_links(runners, home, fed, window, seed)
    assert len({runner.loss for runner in runners}) == 1
    whole, at, none = workers(model(1, "1f1b", tied=tied), microbatches, frozen=frozen)
    expected = run(whole, at, none)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)
    assert runners[0].loss == whole[0].loss


def test_who_waits_says_for_what() -> None:
    runners, _, fed = workers(model(3, "1f1b", tied=False), 4)
    assert [transfer.kind for transfer in fed] == [LABELS] * 4
    assert repr(runners[1].waiting_for) == "activation 0 for stage 1"
    assert repr(runners[2].next) == "F0@2"
    assert runners[0].waiting_for is None
    for _ in range(3):  # as many as there are stages
        (sent,) = runners[0].run()
        runners[1].receive(sent)
    assert repr(runners[0].waiting_for) == "gradient 0 for stage 0"
    assert runners[1].unused("activation", 1) == 3
