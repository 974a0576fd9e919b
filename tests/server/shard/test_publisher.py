"""Promises of publishing: each kind of tensor changes as it should, and what is being sent stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps.protocol.layout import Layout
from ps.server.shard.chunk import ChunkState
from ps.server.shard.publisher import Publisher
from support.delta_parts import job_of


def state_of(kind: str, publisher: Publisher) -> ChunkState:
    dtype = np.int64 if kind == "counter" else np.float64
    [chunk] = Layout.of({"t": np.zeros(4, dtype)}, {"t": kind}).chunks(1, 1024)
    state = ChunkState(chunk, np.arange(4).astype(dtype), {})
    state.slots = publisher.slots(state)
    return state


def published(kind: str, delta: Any, factor: float = 1.0, share: float = 1.0, times: int = 1, **job: Any) -> Any:
    publisher = Publisher(job_of(**job))
    state = state_of(kind, publisher)
    for _ in range(times):
        publisher.apply(state, np.array(delta, state.weights.dtype), factor, share)
    assert state.updates == times
    return state.weights


DELTA = [1.0, -2.0, 3.0, 0.5]


def test_what_is_trained_takes_the_delta_times_the_factor() -> None:
    np.testing.assert_allclose(published("trainable", DELTA, factor=0.5), np.arange(4) + 0.5 * np.array(DELTA))


def test_the_server_optimizer_sees_the_negative_delta_for_a_gradient() -> None:
    lr, momentum = 0.7, 0.9
    velocity, wanted = np.zeros(4), np.arange(4.0)
    for _ in range(3):
        velocity = momentum * velocity - np.array(DELTA)
        wanted -= lr * velocity
    found = published("trainable", DELTA, times=3, server_optimizer=f"momentum:lr={lr},momentum={momentum}")
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_the_servers_learning_rate_follows_its_schedule_round_by_round() -> None:
    found = published("trainable", DELTA, times=3, server_optimizer="sgd:lr=0.5", server_schedule="linear:steps=4")
    np.testing.assert_allclose(found, np.arange(4) + 0.5 * (1 + 0.75 + 0.5) * np.array(DELTA), rtol=1e-12)


def test_buffers_take_the_delta_as_it_is_and_counters_all_counts() -> None:
    np.testing.assert_allclose(published("buffer", DELTA, factor=9.0, share=9.0), np.arange(4) + np.array(DELTA))
    np.testing.assert_array_equal(published("counter", [1, 2, 3, 4], factor=9.0, share=9.0), [1, 3, 5, 7])


def test_control_variates_take_the_share_of_the_clients_that_took_part() -> None:
    found = published("control", DELTA, factor=9.0, share=0.25, algorithm="scaffold")
    np.testing.assert_allclose(found, np.arange(4) + 0.25 * np.array(DELTA))


@pytest.mark.parametrize("kind", ["trainable", "buffer", "counter", "control"])
def test_weights_that_are_being_sent_stay_as_they_are(kind: str) -> None:
    publisher = Publisher(job_of())
    state = state_of(kind, publisher)
    loan = state.lend()
    publisher.apply(state, np.ones(4, state.weights.dtype), 1.0, 1.0)
    np.testing.assert_array_equal(loan.weights, np.arange(4))
    np.testing.assert_array_equal(state.weights, np.arange(4) + 1)


def test_only_what_is_trained_has_optimizer_state() -> None:
    publisher = Publisher(job_of(server_optimizer="momentum:lr=1"))
    assert state_of("trainable", publisher).slots
    assert not any(state_of(kind, publisher).slots for kind in ("buffer", "counter", "control"))
