"""ClusterStore and KV against the real scheduler and servers, in one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.config import MODES, job_from
from ps.data import Dataset
from ps.errors import GradientError, LayoutMismatch, Refused, StateError, UsageError
from ps.models import mlp
from ps.testing import STRICT, LocalCluster, StrictArray
from ps.worker import KV
from ps.worker.cluster import ClusterStore
from support.loopback import BOUND, model

Start = Callable[..., LocalCluster]
SHAPES = ((70, 30), (), (0, 4), (501,), (3, 3, 3))


def mixed(seed: int = 0) -> dict[str, np.ndarray]:
    """Return tensors of both dtypes, large and small, without dimensions and without elements."""
    wide = {name + "64": value for name, value in model(*SHAPES, dtype="float64", seed=seed + 100).items()}
    return {**model(*SHAPES, seed=seed), **wide}


def copied(params: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(xp.to_host(value)) for name, value in params.items()}


def train(kv: KV) -> dict[str, np.ndarray]:
    params = kv.init(mixed())
    for step in range(6):
        if step == 3:
            kv.set_lr(0.02)
        kv.step(mixed(seed=step + 1))
    return copied(params)


JOBS = [
    {},
    {"optimizer": "adam:lr=0.01,weight_decay=0.1", "schedule": "cosine:steps=10,warmup=2"},
    {"optimizer": "momentum:lr=0.05", "clip_value": 0.3},
    {"optimizer": "nesterov:lr=0.05", "clip_norm": 2.0},
    {"optimizer": "adagrad:lr=0.05", "clip_norm": 2.0, "mode": "async"},
    {"optimizer": "lion:lr=0.01", "mode": "ssp"},
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: " ".join(map(str, job.values())) or "default")
def test_one_worker_of_a_cluster_trains_as_one_process_alone(loopback: Start, local: Any, job: dict[str, Any]) -> None:
    job = {**job, "chunk_size": 1024}
    (there,) = loopback(servers=2, **job).run(train)
    here = train(local(**job))
    for name, value in here.items():
        np.testing.assert_allclose(there[name], value, rtol=2e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("clip_norm", [None, 2.0])
def test_sync_with_workers_equals_one_process_with_all_their_examples(
    loopback: Start, local: Any, clip_norm: float | None
) -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((48, 10)), random.standard_normal(48)

    def fit(kv: KV, share: int = 0, of: int = 1) -> np.ndarray:
        params = kv.init({"w": np.zeros(10), "b": np.zeros(())})
        for step in range(12):
            part = slice(step % 4 * 12 + share * 12 // of, step % 4 * 12 + (share + 1) * 12 // of)
            error = x[part] @ params["w"] + params["b"] - y[part]
            kv.step({"w": x[part].T @ error / len(error), "b": np.array(error.mean())})
        return np.append(params["w"], params["b"])

    job = {"optimizer": "adam:lr=0.05", "clip_norm": clip_norm}
    several = loopback(servers=2, workers=3, **job).run(*(partial(fit, share=rank, of=3) for rank in range(3)))
    alone = fit(local(**job))
    for weights in several:
        np.testing.assert_array_equal(weights, several[0])
        np.testing.assert_allclose(weights, alone, rtol=1e-9)


def test_the_weighted_mean_counts_examples(loopback: Start) -> None:
    def script(kv: KV, grad: float, examples: int) -> float:
        params = kv.init({"w": np.zeros(3)})
        for _ in kv.batches(np.arange(2 * examples), examples):
            kv.step({"w": np.full(3, grad)})
            break
        return float(params["w"][0])

    job = loopback(workers=2, aggregator="weighted", optimizer="sgd:lr=1")
    assert job.run(partial(script, grad=1.0, examples=10), partial(script, grad=4.0, examples=5)) == [-2.0, -2.0]


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_host_and_device_are_never_mixed_and_give_the_same_numbers(
    loopback: Start, local: Any, strict_device: xp.Device, mode: str
) -> None:
    random = np.random.default_rng(0)
    data = Dataset(random.standard_normal((96, 8)).astype(np.float32), random.integers(0, 3, 96))

    def script(kv: KV) -> dict[str, np.ndarray]:
        params = kv.init(mlp.init([8, 16, 3], seed=0))
        kind = StrictArray if kv.device.backend is STRICT else np.ndarray
        assert all(isinstance(value, kind) for value in params.values())
        for x, y in kv.batches(data, 12, epochs=2):
            assert isinstance(x, kind)
            loss, grads = mlp.loss_and_grad(params, x, y)
            kv.step(grads, loss=loss)
        out = {name: kv.device.array(np.zeros(p.shape, np.float32)) for name, p in params.items()}
        for _ in range(2):  # and the verbs below step
            _, grads = mlp.loss_and_grad(params, x, y)
            first = kv.push(grads)
            kv.push(grads)
            kv.wait(first)
            kv.wait(kv.pull(out))
            kv.wait(kv.pull())
            kv.barrier()
            for name, value in copied(params).items():
                np.testing.assert_array_equal(value, copied(out)[name])
        return copied(params)

    numbers = [
        script(local(strict_device)),
        script(local()),
        *loopback(servers=2, mode=mode).run(script, device=strict_device),
    ]
    for params in numbers[1:]:
        for name, value in params.items():
            np.testing.assert_allclose(value, numbers[0][name], rtol=1e-5, atol=1e-6)


def test_pushes_on_a_device_do_not_overwrite_each_other_on_their_way(loopback: Start, strict_device: xp.Device) -> None:
    def script(kv: KV) -> float:
        params = kv.init({"w": np.zeros(200_000)})
        for value in range(1, 9):
            kv.push({"w": STRICT.to_device(np.full(200_000, float(value)))})
        kv.wait(kv.pull())
        weights = copied(params)["w"]
        assert weights.min() == weights.max()
        return float(weights[0])

    job = loopback(servers=2, mode="async", optimizer="sgd:lr=1")
    assert job.run(script, device=strict_device) == [-36.0]


def test_a_push_has_copied_its_gradients_when_it_returns(loopback: Start) -> None:
    def script(kv: KV) -> float:
        params = kv.init({"w": np.zeros(8_000_000, np.float32)})
        grads = {"w": np.ones(8_000_000, np.float32)}
        handle = kv.push(grads)
        grads["w"][...] = 1000  # while most of it is still to be sent
        kv.wait(handle)
        kv.wait(kv.pull())
        return float(params["w"].min())

    assert loopback(optimizer="sgd:lr=1", window=1 << 30).run(script) == [-1.0]


def test_weights_that_were_pulled_are_those_that_the_next_gradient_is_of(loopback: Start) -> None:
    with loopback(mode="async", workers=2).together(2) as (kv, other):
        params = kv.init({"w": np.zeros(3)})
        other.init({"w": np.zeros(3)})
        for _ in range(4):
            other.step({"w": np.ones(3)})
        kv.wait(kv.pull({"w": np.zeros(3)}))  # elsewhere: the parameters are as old as they were
        stale = kv.push({"w": np.ones(3)})
        kv.wait(stale)
        kv.wait(kv.pull(params))
        fresh = kv.push({"w": np.ones(3)})
        kv.wait(fresh)
        assert (stale.staleness, fresh.staleness) == (4, 0)


def test_a_push_that_failed_unseen_is_raised_by_close_which_leaves_nevertheless(loopback: Start) -> None:
    job = loopback(workers=1)
    kv = job.connect()
    kv.init({"w": np.zeros(3)})
    kv.wait(kv.push({"w": np.ones(3)}))
    store = kv._store
    assert isinstance(store, ClusterStore)
    store._runner.under_way.error = Refused("server 0: no")
    with pytest.raises(Refused, match="server 0: no"):
        kv.close()
    kv.close()
    job.close()  # the job has ended: its last worker has left


def test_the_first_model_wins_and_another_model_is_refused_by_its_first_difference(loopback: Start) -> None:
    first = threading.Event()

    def seeding(kv: KV) -> float:
        params = kv.init({"w": np.full(3, 1.0), "b": np.zeros(1)})
        first.set()
        return float(params["w"][0])

    def same(kv: KV) -> float:
        assert first.wait(BOUND)
        return float(kv.init({"w": np.full(3, 2.0), "b": np.zeros(1)})["w"][0])

    def other(kv: KV) -> str:
        assert first.wait(BOUND)
        with pytest.raises(LayoutMismatch, match=r"worker 2 has w float64\[4\] where worker 0 has w float64\[3\]"):
            kv.init({"w": np.zeros(4), "b": np.zeros(1)})
        return "refused"

    assert loopback(workers=3).run(seeding, same, other) == [1.0, 1.0, "refused"]


@pytest.mark.parametrize("on_nan", ["fail", "skip"])
def test_a_gradient_that_is_not_finite_does_not_reach_the_servers(loopback: Start, on_nan: str) -> None:
    def script(kv: KV) -> list[float]:
        params = kv.init({"w": np.zeros(3), "v": np.zeros((2, 2))})
        bad = {"w": np.ones(3), "v": np.array([[1, 1], [np.inf, 1]])}
        for push in (kv.step, kv.push, kv.push_pull):
            if on_nan == "fail":
                with pytest.raises(GradientError, match=r"gradient of 'v' is inf at \(1, 0\)"):
                    push(bad)
            else:
                push(bad)
        kv.step({"w": np.ones(3), "v": np.ones((2, 2))})
        return [float(params["w"][0]), kv.clock]

    (found,) = loopback(servers=2, on_nan=on_nan, optimizer="momentum:lr=1").run(script)
    assert found == [-1.0, 1 if on_nan == "fail" else 4]


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_a_barrier_leaves_all_with_one_clock_and_the_same_weights(loopback: Start, mode: str) -> None:
    def script(kv: KV, steps: int) -> tuple[int, float]:
        params = kv.init({"w": np.zeros(5)})
        for _ in range(steps):
            kv.step({"w": np.full(5, float(steps))})
        kv.barrier()
        found = kv.clock, float(params["w"][0])
        kv.barrier()
        kv.step({"w": np.ones(5)})
        return found

    job = loopback(servers=2, workers=2, mode=mode, staleness=20, optimizer="sgd:lr=1")
    one, other = job.run(partial(script, steps=3), partial(script, steps=9))
    assert one == other
    assert one[0] == 9


def test_a_barrier_before_init_is_one_too(loopback: Start) -> None:
    order: list[str] = []

    def script(kv: KV) -> None:
        order.append("before")
        kv.barrier()
        order.append("after")

    loopback(workers=2).run(script, script)
    assert order == ["before", "before", "after", "after"]


@pytest.mark.parametrize("mode", [name for name, traits in MODES.items() if not traits.pipeline])
def test_a_notebook_is_told_in_which_job_a_connection_is(loopback: Start, mode: str) -> None:
    def script(kv: KV) -> str:
        kv.init(model((2,)))
        return repr(kv)

    job = loopback(mode=mode, workers=2)
    role = "client" if mode == "federated" else "worker"
    assert sorted(job.run(script, script)) == [
        f"<KV: {role} {rank} in the {mode} job at {job.address}, clock 0>" for rank in range(2)
    ]


def test_the_status_may_be_asked_for_as_soon_as_there_is_somebody_to_ask() -> None:
    asked: list[dict[str, Any]] = []

    class Session:
        job, rank, member, barriers, cut_plan = job_from({"data_sharing": "static"}), 0, 7, 0, None

        def __setattr__(self, name: str, report: Callable[[], dict[str, Any]]) -> None:
            asked.append(report())  # as another thread does, the moment that it is there

    ClusterStore(Session())  # type: ignore[arg-type]
    assert asked == [{"clock": 0}]


def test_a_push_is_waited_for_at_the_close(loopback: Start) -> None:
    job = loopback(mode="async", workers=2, optimizer="sgd:lr=1")
    closed = threading.Event()

    def pushing(kv: KV) -> None:
        kv.init({"w": np.zeros(300_000)})
        kv.push({"w": np.ones(300_000)})
        kv.close()
        closed.set()

    def looking(kv: KV) -> float:
        params = kv.init({"w": np.zeros(300_000)})
        assert closed.wait(BOUND)
        kv.wait(kv.pull())
        return float(params["w"].max())

    assert job.run(pushing, looking)[1] == -1.0


def test_a_worker_that_comes_late_begins_with_the_jobs_clock_and_batches(loopback: Start) -> None:
    job = loopback(mode="async", workers=1)
    data = np.arange(40)
    with job.connect() as kv:
        params = kv.init({"w": np.zeros(3)})
        mine = []
        for batch in kv.batches(data, 4, epochs=2):
            kv.step({"w": np.ones(3)})
            mine.append(batch.tolist())
        assert kv.clock == 20
        with job.connect() as late:
            theirs = late.batches(data, 4, epochs=3)  # before init, as a script may
            arrived = late.init({"w": np.full(3, 7.0)})
            np.testing.assert_array_equal(arrived["w"], params["w"])
            assert (late.clock, late.num_workers, late.rank) == (20, 2, 1)
            rest = [batch.tolist() for batch in theirs]
            assert len(rest) == 10
            assert rest[0] not in mine


def test_handles_progress_while_nobody_waits_and_belong_to_one_connection(loopback: Start) -> None:
    job = loopback(mode="async", workers=2)
    with job.together(2) as (kv, other):
        kv.init({"w": np.zeros(3)})
        other.init({"w": np.zeros(3)})
        handle = kv.push({"w": np.ones(3)})
        deadline = time.monotonic() + BOUND
        while not handle.done and time.monotonic() < deadline:
            time.sleep(0.001)
        assert handle.done
        with pytest.raises(StateError, match="a handle of another connection"):
            other.wait(handle)
        kv.wait(handle)
        with pytest.raises(UsageError):
            kv.pull({"w": np.zeros(4)})


def test_an_exception_in_the_script_is_noted_and_the_others_go_on(loopback: Start) -> None:
    job = loopback(workers=2)

    def failing(kv: KV) -> None:
        kv.init({"w": np.zeros(3)})
        raise RuntimeError("of the script")

    def going(kv: KV) -> int:
        kv.init({"w": np.zeros(3)})
        for _ in range(5):
            kv.step({"w": np.ones(3)})
        return kv.clock

    results: list[Any] = []

    def other(kv: KV) -> None:
        results.append(going(kv))

    with pytest.raises(RuntimeError, match="of the script"):
        job.run(failing, other)
    assert results == [5]


def test_a_connection_that_is_refused_leaves_nothing_behind(loopback: Start) -> None:
    job = loopback()
    before = threading.active_count()
    with job.connect(rank=0) as kv, pytest.raises(Refused, match="rank 0 is taken by worker 0"):
        job.connect(rank=0, connect_timeout=0.5)
    assert kv.rank == 0
    assert threading.active_count() <= before
