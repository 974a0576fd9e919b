"""Compression on its whole way: up from workers, down from servers, in every mode."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import zmq

from ps.data import digits
from ps.models import softmax
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Error, Push
from ps.protocol.sockets import open_socket
from ps.testing import LocalCluster
from support.loopback import BOUND

Start = Callable[..., LocalCluster]
CODECS = ("fp16", "bf16", "int8", "onebit", "topk:0.05", "randomk:0.1", "powersgd:2", "topk:0.05,momentum=0.5")


read_digits = functools.cache(digits)


def trained(mode: str, codec: str) -> Any:
    """Return a mode and a codec to train with; one codec needs three times as many steps."""
    always = mode == "sync" or not codec.startswith("randomk")
    return pytest.param(mode, codec, marks=() if always else pytest.mark.long("it trains in sync mode, others in all"))


def train(kv: Any, steps: int = 60) -> tuple[float, dict[str, np.ndarray]]:
    """Train a softmax on digits; return its accuracy and weights."""
    data, test = read_digits()
    params = kv.init(softmax.init([64, 10], seed=0))
    for step, (x, y) in enumerate(kv.batches(data, 32, epochs=50)):
        if step == steps:
            break
        loss, grads = softmax.loss_and_grad(params, x, y)
        kv.step(grads, loss=loss)
    kv.barrier()
    return softmax.accuracy(params, test), {name: np.array(params[name]) for name in params}


@pytest.mark.parametrize(
    ("mode", "codec"), [trained(*both) for both in itertools.product(("sync", "async", "ssp"), CODECS)]
)
def test_training_with_every_codec_reaches_what_it_reaches_without(loopback: Start, mode: str, codec: str) -> None:
    lr = 0.05 if codec.startswith("randomk") else 0.3  # what it keeps back for long comes at once
    job = loopback(servers=2, workers=2, mode=mode, chunk_size=1024, compress=codec, optimizer=f"sgd:lr={lr}")
    steps = 200 if codec.startswith("randomk") else 60
    results = job.run(lambda kv: train(kv, steps), lambda kv: train(kv, steps))
    assert min(accuracy for accuracy, _ in results) > 0.8
    if mode == "sync":
        first, second = (weights for _, weights in results)
        assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("codec", CODECS)
def test_two_runs_with_one_seed_give_the_same_bits_and_another_seed_others(loopback: Start, codec: str) -> None:
    def run(seed: int) -> dict[str, np.ndarray]:
        job = loopback(servers=2, workers=2, chunk_size=1024, compress=codec, seed=seed, optimizer="sgd:lr=0.3")
        return job.run(lambda kv: fixed(kv), lambda kv: fixed(kv))[0]

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
    assert min(accuracy for accuracy, _ in started.run(train, train)) > 0.7


def test_a_skipped_step_leaves_all_workers_with_the_same_weights(loopback: Start) -> None:
    def script(kv: Any) -> np.ndarray:
        params = kv.init({"w": np.zeros(3000, np.float32)})
        for step in range(6):
            grad = np.random.default_rng([kv.rank, step]).normal(size=3000).astype("float32")
            grad[5] = np.nan if step == 2 + kv.rank else 0
            kv.step({"w": grad})
        return np.array(params["w"])

    job = loopback(workers=2, chunk_size=1024, compress="topk:0.1", on_nan="skip", optimizer="sgd:lr=0.1")
    first, second = job.run(script, script)
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

    (found,) = loopback(compress=codec, optimizer="sgd:lr=0.1").run(script)
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

    first, second = loopback(workers=2, compress="fp16", optimizer="sgd:lr=1", chunk_size=1024).run(script, script)
    assert np.array_equal(first, second)
    assert np.allclose(first, -(1.5 * 4 + 6 + 4), rtol=1e-3)


def test_what_comes_too_late_is_sent_with_a_later_gradient(loopback: Start) -> None:
    job = loopback(compress="topk:0.1", optimizer="sgd:lr=1", chunk_size=4096)
    kv = job.connect()
    kv.init({"w": np.zeros(1000, np.float32)})
    kv.step({"w": np.arange(1000, dtype=np.float32)})
    compression = kv._store._part.compression
    assert compression is not None
    kept = compression.state[0]["residual"].copy()
    assert kept.max() < 999
    compression.give_back({0})
    assert compression.state[0]["residual"].max() == 999
    compression.give_back({0})
    assert compression.state[0]["residual"].max() == 999, "it was given back twice"
    kv.close()


def whole(rank: int, clock: int) -> np.ndarray:
    """Return whole numbers, whose sums are exact, that depend on rank and clock only."""
    return np.random.default_rng([rank, clock]).integers(-50, 50, 1000).astype("float32")


def drain(*workers: Any) -> None:
    """Do steps without a gradient until nothing is kept back any more, neither by workers nor by servers."""
    for _ in range(10):
        for kv in workers:
            kv.step({"w": np.zeros(1000, np.float32)})


@pytest.mark.parametrize("codec", ["int8", "topk:0.05", "powersgd:2"])
def test_who_joins_late_in_sync_has_the_others_bits_from_then_on(loopback: Start, codec: str) -> None:
    job = loopback(servers=2, workers=1, chunk_size=1024, compress=codec, optimizer="sgd:lr=0.1")
    end: list[int] = []

    def train(kv: Any, params: Any, seen: dict[int, np.ndarray]) -> None:
        seen[kv.clock] = params["w"].copy()
        while not end or kv.clock < end[0]:
            kv.step({"w": whole(kv.rank, kv.clock)})
            seen[kv.clock] = params["w"].copy()

    def late() -> dict[int, np.ndarray]:
        seen: dict[int, np.ndarray] = {}
        with job.connect() as kv:
            params = kv.init({"w": np.zeros(1000, np.float32)})
            end.append(kv.clock + 8)
            train(kv, params, seen)
        return seen

    with ThreadPoolExecutor(1) as pool, job.connect() as kv:
        first: dict[int, np.ndarray] = {}
        params = kv.init({"w": np.zeros(1000, np.float32)})
        for clock in range(5):
            kv.step({"w": whole(kv.rank, clock)})
        joined = pool.submit(late)
        train(kv, params, first)
        second = joined.result(BOUND)
    assert len(second) == 9 and min(second) >= 5
    assert all(first[clock].tobytes() == weights.tobytes() for clock, weights in second.items())


def test_who_joins_late_in_async_gets_the_weights_and_follows_them(loopback: Start) -> None:
    job = loopback(mode="async", chunk_size=1024, compress="topk:0.25", optimizer="sgd:lr=1")
    with job.connect() as kv:
        params = kv.init({"w": np.zeros(1000, np.float32)})
        total = np.zeros(1000)
        for clock in range(4):
            kv.step({"w": whole(kv.rank, clock)})
            total += whole(kv.rank, clock)
        drain(kv)
        assert np.array_equal(params["w"], -total)
        with job.connect() as late:
            theirs = late.init({"w": np.ones(1000, np.float32)})
            assert np.array_equal(theirs["w"], -total)
            for clock in range(4):
                for worker in (kv, late):
                    worker.step({"w": whole(worker.rank, clock)})
                    total += whole(worker.rank, clock)
            drain(kv, late)
            assert np.array_equal(params["w"], -total)
            assert np.array_equal(theirs["w"], -total)


def test_what_backup_workers_bring_too_late_is_not_lost(loopback: Start) -> None:
    here, stepped = threading.Barrier(2), threading.Event()

    def script(kv: Any) -> tuple[int, np.ndarray]:
        params = kv.init({"w": np.zeros(1000, np.float32)})
        here.wait(BOUND)  # one that comes after the first clock is closed begins with the second
        joins = kv._store.rejoins  # none of whoever brought the first values
        for clock in range(20):
            assert kv.rank == 0 or stepped.wait(BOUND)  # so that the other's first gradient is too late
            kv.step({"w": whole(kv.rank, clock)})
            stepped.set()
        while any(state["residual"].any() for state in kv._store._part.compression.state.values()):
            drain(kv)
        kv.barrier()
        drain(kv)
        kv.barrier()
        return kv._store.rejoins - joins, np.array(params["w"])

    job = loopback(workers=2, backup_workers=1, chunk_size=1024, compress="topk:0.25", optimizer="sgd:lr=1")
    (_, first), (rejoins, second) = job.run(script, script)
    assert rejoins > 0, "nothing came too late, so nothing was tested"
    total = sum(whole(rank, clock) for rank in (0, 1) for clock in range(20))
    assert np.array_equal(first, -total) and np.array_equal(second, -total)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_malformed_frame_is_refused_and_training_beside_it_goes_on(loopback: Start, mode: str, codec: str) -> None:
    job = loopback(mode=mode, chunk_size=4096, compress=codec, optimizer="sgd:lr=1")
    with job.connect() as kv, contextlib.ExitStack() as stack:
        context: zmq.Context[Any] = zmq.Context()
        stack.callback(context.destroy, linger=0)
        peer = open_socket(context, zmq.DEALER)
        [server] = kv._store._session.peers("server")
        peer.connect(next(address for address in server.addresses if address.startswith("tcp:")))
        kv.init({"w": np.zeros(1000, np.float32)})
        encoded = kv._store._part.compression.encode(whole(kv.rank, 0), 0, 0).tobytes()
        kv._store._part.compression.state.clear()
        bad = [b"", b"x", encoded[:-1], encoded + b"\0", b"\xff" * len(encoded), b"\0" * (1 << 20)]
        for request, frame in enumerate(bad, 1):
            push = Push(request, kv._store._session.member, 0, 0, 0, 1.0, 1.0, True)
            peer.send_multipart([encode(push), frame])
            assert peer.poll(int(BOUND * 1000)), "no answer"
            answer = decode(peer.recv_multipart()[0])
            assert isinstance(answer, Error) and answer.request == request, f"{frame[:20]!r} was answered {answer!r}"
        honest = four_steps(kv)
    with loopback(mode=mode, chunk_size=4096, compress=codec, optimizer="sgd:lr=1").connect() as kv:
        kv.init({"w": np.zeros(1000, np.float32)})
        assert np.array_equal(four_steps(kv), honest)


def four_steps(kv: Any) -> np.ndarray:
    for clock in range(4):
        kv.step({"w": whole(kv.rank, clock)})
    return np.array(kv.params["w"])
