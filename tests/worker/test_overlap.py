"""Overlap: gradients announced while others are computed, weights that arrive while they are not needed yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps.errors import GradientError, StateError
from ps.testing import LocalCluster
from ps.worker.lazy_parameters import LazyParameters

Start = Callable[..., LocalCluster]
SHAPES = {"a": (700,), "b": (40, 30), "c": (3,), "d": (2000,)}


def first(dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


def grads_of(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(100 + step)
    return {name: rng.normal(size=shape).astype("float32") for name, shape in SHAPES.items()}


def trained(start: Start, how: Callable[[Any, int], None], **job: Any) -> dict[str, np.ndarray]:
    kv = start(servers=2, chunk_size=1024, optimizer="momentum:lr=0.1", **job).connect()
    params = kv.init(first())
    for step in range(6):
        how(kv, step)
    result = {name: np.array(params[name]) for name in params}
    kv.close()
    return result


def plain(kv: Any, step: int) -> None:
    kv.step(grads_of(step), loss=1.0)


def announced(kv: Any, step: int) -> None:
    for name, grad in reversed(grads_of(step).items()):
        kv.ready(name, grad)
    kv.step(loss=1.0)


def half_announced(kv: Any, step: int) -> None:
    grads = grads_of(step)
    kv.ready("d", grads["d"])
    kv.ready("b", grads["b"])
    kv.step(grads, loss=1.0)


@pytest.mark.parametrize("transport", ["tcp", "ipc", "shm"])
@pytest.mark.parametrize("job", [{}, {"overlap": True}, {"clip_norm": 1.0}, {"overlap": True, "clip_norm": 1.0}])
@pytest.mark.parametrize("how", [plain, announced, half_announced])
def test_the_weights_are_the_same_bits_however_gradients_come(
    loopback: Start, how: Callable[[Any, int], None], job: dict[str, Any], transport: str
) -> None:
    clip = {key: value for key, value in job.items() if key == "clip_norm"}
    expected = trained(loopback, plain, transport="tcp", **clip)
    found = trained(loopback, how, transport=transport, **job)
    for name, value in expected.items():
        assert np.array_equal(found[name], value), name


def test_two_workers_that_announce_give_what_two_that_do_not_give(loopback: Start) -> None:
    def run(how: Callable[[Any, int], None], **job: Any) -> list[dict[str, np.ndarray]]:
        def script(kv: Any) -> dict[str, np.ndarray]:
            params = kv.init(first())
            for step in range(6):
                how(kv, 10 * step + kv.rank)
            kv.barrier()
            return {name: np.array(params[name]) for name in params}

        return loopback(servers=2, workers=2, chunk_size=1024, **job).run(script, script)

    expected, *_ = run(plain, transport="tcp")
    for transport in ("tcp", "shm"):
        for found in run(announced, transport=transport, overlap=True):
            assert all(np.array_equal(found[name], expected[name]) for name in SHAPES)


def test_a_step_returns_before_all_has_arrived_and_reading_waits_for_the_rest(loopback: Start) -> None:
    kv = loopback(chunk_size=1024, window=1024, transport="tcp", overlap=True, optimizer="sgd:lr=1").connect()
    large = np.zeros(200_000, np.float32)
    params = kv.init({"first": np.zeros(4, np.float32), "large": large})
    assert isinstance(params, LazyParameters)
    unfinished = 0
    for step in range(1, 6):
        kv.step({"first": np.ones(4, np.float32), "large": np.ones_like(large)})
        unfinished += not kv._store._runner.under_way.done  # 800 requests, one at a time
        assert np.all(params["first"] == -step)
        unfinished += not kv._store._runner.under_way.done
        assert np.all(params["large"] == -step)
        assert kv._store._runner.under_way.done
    assert unfinished == 10
    kv.close()


def test_gradients_may_be_changed_after_an_overlapped_step(loopback: Start) -> None:
    kv = loopback(chunk_size=1024, window=1024, transport="tcp", overlap=True, optimizer="sgd:lr=1").connect()
    params = kv.init({"w": np.zeros(100_000, np.float32)})
    grad = np.ones(100_000, np.float32)
    for announce in (False, True):
        if announce:
            kv.ready("w", grad)
        kv.step({"w": grad})
        grad[:] = 1e9
        kv.barrier()
        grad[:] = 1
    assert np.all(params["w"] == -2)
    kv.close()


def test_chunks_go_in_the_order_in_which_the_next_forward_pass_needs_them(loopback: Start) -> None:
    kv = loopback(chunk_size=1024, window=1024, transport="tcp").connect()
    kv.init({name: np.zeros(256, np.float32) for name in "abcdef"})  # one chunk each, one unanswered at a time
    sent: list[int] = []
    exchange = kv._store._session.exchange
    queue = exchange._queues[0]
    exchange.poll = queue.send_queued  # type: ignore[method-assign]  # answers are taken with the step, not before
    send = queue._send
    queue._send = lambda request: sent.append(request.chunk) or send(request)  # type: ignore[method-assign]
    for name in "fedcba":
        kv.ready(name, np.ones(256, np.float32))
    kv.step()
    assert sent == [5, 0, 1, 2, 3, 4], "what is ready first has nothing to wait for; the first layer overtakes what has"
    kv.close()


def test_what_was_announced_is_sent_before_the_step(loopback: Start) -> None:
    kv = loopback(chunk_size=1024, transport="shm").connect()
    kv.init(first())
    before = kv._store.traffic.bytes_up
    kv.ready("d", np.ones(2000, np.float32))
    assert kv._store.traffic.bytes_up - before >= 4 * 1024
    kv.step({name: np.ones(shape, np.float32) for name, shape in SHAPES.items()})
    kv.close()


@pytest.mark.parametrize("job", [{"on_nan": "skip"}, {"clip_norm": 1.0}])
def test_nothing_is_sent_early_where_all_must_be_known_first(loopback: Start, job: dict[str, Any]) -> None:
    kv = loopback(chunk_size=1024, **job).connect()
    params = kv.init(first())
    before, weights = kv._store.traffic.bytes_up, np.array(params["d"])
    for name, shape in SHAPES.items():
        kv.ready(name, np.full(shape, np.nan if name == "a" else 1, np.float32))
    assert kv._store.traffic.bytes_up == before
    if "on_nan" in job:
        kv.step()
        assert np.array_equal(params["d"], weights) and kv.clock == 1
    else:
        with pytest.raises(GradientError, match="'a' is nan"):
            kv.step()
    kv.close()


def test_bad_announcements_are_told(loopback: Start, local: Callable[..., Any]) -> None:
    for kv in (loopback(transport="shm").connect(), local()):
        kv.init(first())
        with pytest.raises(GradientError, match="unknown tensor 'e'"):
            kv.ready("e", np.ones(3, np.float32))
        with pytest.raises(GradientError, match="shape"):
            kv.ready("a", np.ones(3, np.float32))
        kv.ready("a", np.ones(700, np.float32))
        with pytest.raises(GradientError, match="second gradient of 'a'"):
            kv.ready("a", np.ones(700, np.float32))
        with pytest.raises(StateError, match=r"kv\.step"):
            kv.push(grads_of(0))
        with pytest.raises(GradientError, match="no gradient for tensor"):
            kv.step({"b": np.ones((40, 30), np.float32)})
        kv.step(grads_of(0))
        assert kv.clock == 1
        kv.close()


def test_a_nan_that_is_announced_is_told_at_once(loopback: Start) -> None:
    kv = loopback(transport="tcp").connect()
    kv.init(first())
    bad = np.ones((40, 30), np.float32)
    bad[3, 4] = np.inf
    with pytest.raises(GradientError, match=r"'b' is inf at \(3, 4\); other tensors"):
        kv.ready("b", bad)
    kv.close("given up")


def test_a_step_whose_announcements_failed_may_be_announced_again(local: Callable[..., Any]) -> None:
    kv = local(optimizer="sgd:lr=1.0")
    params = kv.init({"a": np.zeros(3), "b": np.zeros(3)})
    kv.ready("a", np.ones(3))
    with pytest.raises(GradientError, match="shape"):
        kv.ready("b", np.ones(4))
    for _ in range(2):  # as when a backward pass was interrupted, and the cell is run again
        kv.ready("a", np.full(3, 5.0))
        with pytest.raises(GradientError, match=r"second gradient of 'a'.* begin it again"):
            kv.ready("a", np.ones(3))
    kv.ready("a", np.full(3, 5.0))
    kv.ready("b", np.full(3, 2.0))
    kv.step()
    assert (params["a"][0], params["b"][0], kv.clock) == (-1, -2, 1)
