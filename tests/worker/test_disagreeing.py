"""Workers whose scripts say different things about the job: one rule each, the same on all servers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ps import xp
from ps.errors import StateError
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.step_log import StepLog
from support.loopback import BOUND

Start = Callable[..., LocalCluster]
SIZE = 4096


def ones() -> dict[str, np.ndarray]:
    return {"w": np.ones(SIZE, np.float32)}


def setting(kv: KV, lr: float) -> list[float]:
    params = kv.init({"w": np.zeros(SIZE, np.float32)})
    for _ in range(10):
        kv.set_lr(lr)
        kv.step(ones())
    kv.barrier()
    return [float(value) for value in np.unique(params["w"])]


@pytest.mark.parametrize("job", [{}, {"clip_norm": 1e6}, {"compress": "fp16"}, {"overlap": True}], ids=str)
def test_of_two_rates_for_one_step_the_lowest_ranks_counts_in_all_parts_of_the_model(
    loopback: Start, job: dict[str, object]
) -> None:
    cluster = loopback(servers=2, workers=2, optimizer="sgd:lr=1", chunk_size=4096, **job)
    assert cluster.run(partial(setting, lr=0.5), partial(setting, lr=0.25)) == [[-5.0], [-5.0]]


@pytest.mark.parametrize("mode", ["async", "ssp"])
def test_where_gradients_are_applied_alone_each_worker_has_its_own_rate(loopback: Start, mode: str) -> None:
    cluster = loopback(servers=2, workers=2, optimizer="sgd:lr=1", chunk_size=4096, mode=mode)
    assert cluster.run(partial(setting, lr=0.5), partial(setting, lr=0.25)) == [[-7.5], [-7.5]]


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_a_rate_that_one_worker_sets_holds_for_all_also_when_it_has_left(loopback: Start, mode: str) -> None:
    def script(kv: KV) -> float:
        params = kv.init({"w": np.zeros(SIZE, np.float32)})
        if kv.rank == 1:
            kv.set_lr(0.5)
        kv.step(ones())
        kv.barrier()
        before = params["w"].copy()
        if kv.rank == 1:
            return 0.0
        for _ in range(3):
            kv.step(ones())
        assert np.unique(before - params["w"]).size == 1
        return float(before[0] - params["w"][0])

    job = loopback(servers=2, workers=2, mode=mode, optimizer="sgd:lr=1", chunk_size=4096)
    assert job.run(script, script) == [1.5, 0.0]


def test_a_rate_is_not_set_between_the_gradients_of_one_step(loopback: Start) -> None:
    def script(kv: KV) -> None:
        kv.init({"v": np.zeros(3), "w": np.zeros(3)})
        kv.ready("w", np.ones(3))
        with pytest.raises(StateError, match=r"announced with kv.ready: give the others with kv.step"):
            kv.set_lr(0.5)
        kv.step({"v": np.ones(3)})
        kv.set_lr(0.5)

    loopback(optimizer="sgd:lr=1").run(script)


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_the_nth_barrier_of_one_worker_is_the_nth_of_all_and_who_has_left_is_at_none(
    loopback: Start, mode: str
) -> None:
    lock, passed = threading.Lock(), []

    def script(kv: KV, barriers: int) -> int:
        kv.init({"w": np.zeros(5)})
        for number in range(barriers):
            for _ in range(kv.rank + 1):
                kv.step({"w": np.ones(5)})
            kv.barrier()
            with lock:
                passed.append((number, kv.rank))
        return kv.clock

    job = loopback(servers=2, workers=3, mode=mode, staleness=50, optimizer="sgd:lr=0.1")
    clocks = job.run(*(partial(script, barriers=count) for count in (1, 2, 3)))
    assert [number for number, _ in passed] == [0, 0, 0, 1, 1, 2]
    assert clocks == [3, 6, 9]


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_a_worker_that_stops_is_not_waited_for_and_the_others_train_to_their_end(loopback: Start, mode: str) -> None:
    def script(kv: KV, steps: int) -> tuple[int, int]:
        kv.init({"w": np.zeros(5)})
        for done in range(20):
            if done == steps:
                break
            kv.step({"w": np.ones(5)})
        return done, kv.clock

    job = loopback(servers=2, workers=3, mode=mode, staleness=2, optimizer="sgd:lr=0.1")
    assert job.run(*(partial(script, steps=steps) for steps in (3, 7, 30))) == [(3, 3), (7, 7), (19, 20)]
    job.close()  # the job ends with its last worker, not with rank 0


def test_what_rank_0_wants_evaluated_is_and_what_others_want_is_not(loopback: Start, tmp_path: Path) -> None:
    job = loopback(workers=2, eval_every=2)

    def script(rank: int) -> None:
        log = StepLog(str(tmp_path / str(rank)))
        with KV(job.store(rank), xp.CPU, log) as kv:
            kv.init({"w": np.zeros(5)})
            kv.evaluate(lambda params, data: {f"of rank {rank}": 1.0}, None)
            for _ in range(4):
                kv.step({"w": np.ones(5)})

    threads = [threading.Thread(target=script, args=(rank,), daemon=True) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
        assert not thread.is_alive()
    lines = (tmp_path / "0" / "evaluations.jsonl").read_text().splitlines()
    assert [json.loads(line)["clock"] for line in lines] == [2, 4]
    assert all("of rank 0" in line for line in lines)
    assert not (tmp_path / "1" / "evaluations.jsonl").exists()
