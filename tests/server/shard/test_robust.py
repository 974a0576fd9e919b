"""Promises of synchronous training against attackers: one poisoned worker moves nothing far, too few judge nothing."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from ps.config import JobConfig
from ps.errors import ConfigError
from ps.testing import LocalCluster
from support.lone import Lone, told

ROBUST = ["median", "trimmed:0.2", "krum:1", "multikrum:1", "geomedian"]


@pytest.mark.parametrize("aggregator", ROBUST)
def test_one_poisoned_worker_of_five_does_not_move_the_weights(aggregator: str) -> None:
    lone = Lone(5, aggregator=aggregator)
    for member, value in ((1, 1.0), (2, 1.25), (3, -1e30), (4, 0.75)):
        assert told(lone.push(member, 0, value)) == []
    assert len(told(lone.push(5, 0, 1.0))) == 5
    assert -1.25 <= lone.value <= -0.75


@pytest.mark.parametrize("compress", ["fp16", "int8", "topk:1"])
@pytest.mark.parametrize("aggregator", ["median", "krum:1"])
def test_compressed_gradients_are_compared_as_what_they_stand_for(aggregator: str, compress: str) -> None:
    rng = np.random.default_rng(0)
    target = rng.standard_normal(64).astype(np.float32)
    assert train(target, 5, 60, aggregator=aggregator, compress=compress, transport="tcp") < 0.1


@pytest.mark.parametrize(
    "job", [{}, {"clip_norm": 5.0}, {"chunk_size": 1 << 10}, {"servers": 2, "chunk_size": 1 << 10}]
)
def test_training_with_one_poisoned_worker_of_five_arrives(job: dict[str, Any]) -> None:
    target = np.random.default_rng(1).standard_normal(900).astype(np.float32)
    for aggregator in ROBUST:
        assert train(target, 5, 40, aggregator=aggregator, **job) < 0.1, aggregator
    assert train(target, 5, 5, aggregator="mean", **job) > 1.0


@pytest.mark.parametrize("aggregator", ROBUST)
def test_the_bits_are_the_same_over_every_transport(aggregator: str) -> None:
    target = np.random.default_rng(1).standard_normal(900).astype(np.float32)
    found = {weights(target, 5, 6, aggregator=aggregator, transport=way, chunk_size=1024) for way in ("tcp", "ipc")}
    assert len(found) == 1


@pytest.mark.parametrize("aggregator", ["median", "trimmed:0.2"])
def test_elementwise_the_cut_into_chunks_and_servers_changes_no_bit(aggregator: str) -> None:
    target = np.random.default_rng(1).standard_normal(900).astype(np.float32)
    cuts: list[dict[str, int]] = [{}, {"chunk_size": 1024}, {"servers": 2, "chunk_size": 1500}]
    assert len({weights(target, 5, 6, aggregator=aggregator, **cut) for cut in cuts}) == 1


def train(target: np.ndarray, workers: int, steps: int, **job: Any) -> float:
    """Return how far from the target, of norm sqrt(n), the weights are per element after training towards it."""
    found = np.frombuffer(weights(target, workers, steps, **job), np.float32)
    return float(np.sqrt(np.mean((found - target) ** 2)))


def weights(target: np.ndarray, workers: int, steps: int, **job: Any) -> bytes:
    """Return the weights, the same at all workers, after steps of which worker 2's are poisoned."""

    def script(kv: Any) -> bytes:
        rng = np.random.default_rng(kv.rank)
        params = kv.init({"w": np.zeros_like(target)})
        for _ in range(steps):
            noise = rng.standard_normal(target.size).astype(np.float32)
            poisoned = kv.rank == 2
            kv.step({"w": np.full_like(target, -1e4) if poisoned else params["w"] - target + np.float32(0.1) * noise})
        return params["w"].tobytes()

    with LocalCluster(workers=workers, optimizer="sgd:0.2", **job) as cluster:
        [found] = set(cluster.run(*[script] * workers))
        return found


def test_backup_workers_leave_fewer_gradients_to_compare() -> None:
    lone = Lone(6, aggregator="krum:1", backup_workers=1)
    for member, value in ((2, 1.0), (3, 1.25), (4, 1e9), (5, 0.75)):
        assert told(lone.push(member, 0, value)) == []
    assert len(told(lone.push(6, 0, 1.0))) == 5
    assert lone.value == -1.0


def test_with_too_few_gradients_the_step_is_skipped_with_a_word_until_there_are_enough(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lone = Lone(5, aggregator="krum:1")
    with caplog.at_level(logging.WARNING, "ps.server"):
        for clock in range(2):
            for member in (1, 2, 3, 4):
                lone.push(member, clock, 1.0)
            assert len(told(lone.skip(5, clock))) == 5
            assert (lone.value, lone.chunk.version, lone.chunk.updates) == (0.0, clock + 1, 0)
    [line] = [record.message for record in caplog.records]
    assert line.startswith("clock 0 has 4 gradients, and aggregator krum:f=1 needs 5: steps are skipped until")
    for member in range(1, 6):
        lone.push(member, 2, 1.0)
    assert (lone.value, lone.chunk.updates) == (-1.0, 1)


def test_a_step_that_all_skip_is_none_with_too_few_gradients(caplog: pytest.LogCaptureFixture) -> None:
    lone = Lone(5, aggregator="krum:1")
    for member in range(1, 6):
        lone.skip(member, 0)
    assert (lone.chunk.version, caplog.records) == (1, [])


def test_too_few_gradients_are_none_to_clip_either() -> None:
    lone = Lone(5, aggregator="krum:1", clip_norm=1.0)
    for member in (1, 2, 3, 4):
        lone.push(member, 0, 1.0, pull=False)
    lone.skip(5, 0, pull=False)
    for member in range(1, 6):
        lone.scale(member, 0, 1.0)
    assert (lone.value, lone.chunk.version) == (0.0, 1)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (
            {"aggregator": "clip"},
            "aggregator = clip knows norms of whole models and needs mode = federated, but mode = s",
        ),
        (
            {"aggregator": "median", "mode": "ssp"},
            "needs mode = sync, pipeline or federated, but with mode = ssp each is applied",
        ),
        ({"aggregator": "krum:1", "workers": 4}, "krum:1 needs at least 5 workers, but there are workers = 4"),
        (
            {"aggregator": "krum:1", "workers": 5, "backup_workers": 1},
            "needs at least 5 workers, but there are workers = 5 less backup_workers = 1",
        ),
    ],
)
def test_an_aggregator_that_cannot_work_here_is_refused_with_what_it_needs(job: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JobConfig(**job).check()
