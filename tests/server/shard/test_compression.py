"""What a server keeps of a job that compresses: weights as workers have them, for as long as they are there."""

from __future__ import annotations

import numpy as np
import pytest

from ps.compress import CODECS, Key, Uplink
from ps.protocol.messages import Push
from support.lone import SIZE, Lone


def push(lone: Lone, member: int, clock: int) -> None:
    """Push as a worker that compresses by half."""
    uplink = Uplink(CODECS.parse("topk:0.5"))
    gradient = np.arange(SIZE, dtype=np.float32)
    frame = uplink.encode(gradient, uplink.init(gradient), Key(lone.job.seed, clock, 0, member - 1))
    lone.ask(Push(lone.number(), member, 0, clock, 0, 1.0, 1.0, True), frame)


@pytest.mark.parametrize("mode", ["async", "ssp"])
def test_what_is_kept_for_a_worker_goes_with_it(mode: str) -> None:
    lone = Lone(workers=3, mode=mode, compress="topk:0.5")
    for member in (1, 2, 3):
        push(lone, member, 0)
    assert lone.chunk.shadows.keys() == {1, 2, 3}
    lone.lose(2)
    assert lone.chunk.shadows.keys() == {1, 3}
    lone.lose(1)
    assert lone.chunk.shadows.keys() == {3}


def test_in_lockstep_it_is_kept_once_however_many_workers_come_and_go() -> None:
    lone = Lone(workers=3, compress="topk:0.5")
    for clock in range(2):
        for member in (1, 2, 3):
            push(lone, member, clock)
        assert len(lone.chunk.shadows) == 1
    lone.lose(2)
    lone.join(4)
    assert len(lone.chunk.shadows) == 1
