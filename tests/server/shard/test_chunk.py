"""Promises of a chunk: weights that were lent are sent as they were, and nothing waits for who is gone."""

from __future__ import annotations

import numpy as np
import pytest

from ps.protocol.layout import Layout
from ps.protocol.messages.rate import UNSAID
from ps.server.loan import SENT
from ps.server.shard.chunk import MANY_LOANS, ChunkState, Combined

[CHUNK] = Layout.of({"w": np.zeros(8, np.float32)}).chunks(1, 1024)


def state(*, shown: bool) -> ChunkState:
    return ChunkState(CHUNK, np.arange(8, dtype=np.float32), {}, shown=shown)


@pytest.mark.parametrize("shown", [False, True])
def test_weights_not_sent_yet_are_sent_as_they_were_when_they_were_lent(shown: bool) -> None:
    chunk = state(shown=shown)
    place = chunk.weights
    first = chunk.lend()
    second = chunk.lend()
    second.tracker = SENT
    chunk.own()
    chunk.weights += 100
    assert np.array_equal(first.weights, np.arange(8))
    assert (chunk.weights is place) == shown, "weights that workers read in place stay there"
    assert np.array_equal(chunk.weights, np.arange(8) + 100) and chunk.loans == []


@pytest.mark.parametrize("shown", [False, True])
def test_nothing_is_copied_when_all_were_sent(shown: bool) -> None:
    chunk = state(shown=shown)
    place = chunk.weights
    for _ in range(3):
        chunk.lend().tracker = SENT
    chunk.own()
    assert chunk.weights is place


def test_loans_that_are_done_do_not_pile_up_while_nothing_is_pushed() -> None:
    chunk = state(shown=True)
    for _ in range(10 * MANY_LOANS):
        chunk.lend().tracker = SENT
    assert len(chunk.loans) <= MANY_LOANS


def test_a_combined_gradient_is_dropped_with_the_last_that_could_send_its_scale() -> None:
    chunk = state(shown=False)
    chunk.combined = waiting = Combined(0, np.ones(8, np.float32), 8.0, {1, 2}, UNSAID)
    chunk.retire(1)
    assert chunk.combined is waiting and waiting.scalers == {2}
    chunk.forget(2)
    assert chunk.combined is None
