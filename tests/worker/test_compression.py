"""Compression on its whole way: up from workers, down from servers, in every mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from loopback import Loopback

from ps.data import digits
from ps.models import softmax

Start = Callable[..., Loopback]
CODECS = ("fp16", "bf16", "int8", "onebit", "topk:0.05", "randomk:0.1", "powersgd:2", "topk:0.05,momentum=0.5")


def train(kv: Any, steps: int = 60) -> tuple[float, dict[str, np.ndarray]]:
    """Train a softmax on digits; return its accuracy and weights."""
    data, test = digits()
    params = kv.init(softmax.init([64, 10], seed=0))
    for step, (x, y) in enumerate(kv.batches(data, 32, epochs=50)):
        if step == steps:
            break
        loss, grads = softmax.loss_and_grad(params, x, y)
        kv.step(grads, loss=loss)
    kv.barrier()
    return softmax.accuracy(params, test), {name: np.array(params[name]) for name in params}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_training_with_every_codec_reaches_what_it_reaches_without(loopback: Start, mode: str, codec: str) -> None:
    lr = 0.05 if codec.startswith("randomk") else 0.3  # what it keeps back for long comes at once
    job = loopback(servers=2, workers=2, mode=mode, chunk_size=1024, compress=codec, optimizer=f"sgd:lr={lr}")
    steps = 200 if codec.startswith("randomk") else 60
    results = job.work(lambda kv: train(kv, steps), lambda kv: train(kv, steps))
    assert min(accuracy for accuracy, _ in results) > 0.8
    if mode == "sync":
        first, second = (weights for _, weights in results)
        assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("codec", CODECS)
def test_two_runs_with_one_seed_give_the_same_bits_and_another_seed_others(loopback: Start, codec: str) -> None:
    def run(seed: int) -> dict[str, np.ndarray]:
        job = loopback(servers=2, workers=2, chunk_size=1024, compress=codec, seed=seed, optimizer="sgd:lr=0.3")
        return job.work(lambda kv: fixed(kv), lambda kv: fixed(kv))[0]

    first, again, other = run(1), run(1), run(2)
    assert np.array_equal(first["w"], again["w"])
    if codec.startswith(("int8", "randomk", "powersgd")):
        assert not np.array_equal(first["w"], other["w"])


def fixed(kv: Any, steps: int = 8) -> dict[str, np.ndarray]:
    """Do some steps with gradients that depend on rank and clock only."""
    params = kv.init({"w": np.zeros((40, 50), np.float32)})
    for step in range(steps):
        kv.step({"w": np.random.default_rng([kv.rank, step]).normal(size=(40, 50)).astype("float32")})
    return {"w": np.array(params["w"])}


@pytest.mark.parametrize("job", [{"clip_norm": 0.5}, {"overlap": True}, {"mode": "async", "clip_norm": 0.5}])
def test_it_goes_with_clipping_and_overlap(loopback: Start, job: dict[str, Any]) -> None:
    started = loopback(servers=2, workers=2, chunk_size=1024, compress="int8", optimizer="sgd:lr=0.3", **job)
    assert min(accuracy for accuracy, _ in started.work(train, train)) > 0.7


def test_a_skipped_step_leaves_all_workers_with_the_same_weights(loopback: Start) -> None:
    def script(kv: Any) -> np.ndarray:
        params = kv.init({"w": np.zeros(3000, np.float32)})
        for step in range(6):
            grad = np.random.default_rng([kv.rank, step]).normal(size=3000).astype("float32")
            grad[5] = np.nan if step == 2 + kv.rank else 0
            kv.step({"w": grad})
        return np.array(params["w"])

    job = loopback(workers=2, chunk_size=1024, compress="topk:0.1", on_nan="skip", optimizer="sgd:lr=0.1")
    first, second = job.work(script, script)
    assert np.array_equal(first, second) and first.any()


@pytest.mark.parametrize(("codec", "least"), [("fp16", 1.98), ("int8", 3.9), ("onebit", 25), ("topk:0.01", 40)])
def test_few_bytes_travel_both_ways(loopback: Start, codec: str, least: float) -> None:
    def script(kv: Any) -> tuple[float, float]:
        params = kv.init({"w": np.zeros(500_000, np.float32)})
        grad = np.random.default_rng(3).normal(size=500_000).astype("float32")
        kv.step({"w": grad})  # the first answer is the whole weights
        traffic = kv._store.traffic
        up, down = traffic.bytes_up, traffic.bytes_down
        for _ in range(3):
            kv.step({"w": grad})
        assert params["w"].any()
        return 6e6 / (traffic.bytes_up - up), 6e6 / (traffic.bytes_down - down)

    (found,) = loopback(compress=codec, optimizer="sgd:lr=0.1").work(script)
    assert min(found) > least, found


def test_push_and_pull_apart_are_compressed_on_the_way_up(loopback: Start) -> None:
    def script(kv: Any) -> np.ndarray:
        params = kv.init({"w": np.zeros(3000, np.float32)})
        for step in range(4):
            kv.push({"w": np.full(3000, 1 + kv.rank + step, np.float32)})
            kv.wait(kv.pull())
            kv.step({"w": np.ones(3000, np.float32)})
        kv.barrier()
        return np.array(params["w"])

    first, second = loopback(workers=2, compress="fp16", optimizer="sgd:lr=1", chunk_size=1024).work(script, script)
    assert np.array_equal(first, second)
    assert np.allclose(first, -(1.5 * 4 + 6 + 4), rtol=1e-3)


def test_what_comes_too_late_is_sent_with_a_later_gradient(loopback: Start) -> None:
    job = loopback(compress="topk:0.1", optimizer="sgd:lr=1", chunk_size=4096)
    kv = job.connect()
    kv.init({"w": np.zeros(1000, np.float32)})
    kv.step({"w": np.arange(1000, dtype=np.float32)})
    compression = kv._store.compression
    assert compression is not None
    kept = compression.state[0]["residual"].copy()
    assert kept.max() < 999
    compression.give_back({0})
    assert compression.state[0]["residual"].max() == 999
    compression.give_back({0})
    assert compression.state[0]["residual"].max() == 999, "it was given back twice"
    kv.close()
