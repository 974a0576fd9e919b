"""--global-batch: a step is of so many examples, and of the same ones, whatever the number of workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.errors import DataError, GradientError, UsageError
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.step_log import StepLog

Local = Callable[..., KV]
Start = Callable[..., LocalCluster]

DATA = np.random.default_rng(3).standard_normal((100, 4))
TARGET = DATA @ np.arange(4.0)
JOB = {"optimizer": "momentum:lr=0.05", "schedule": "cosine:steps=12", "global_batch": 32}


def train(kv: KV, batch: int = 8, epochs: int = 3, used: list[Any] | None = None, **how: Any) -> np.ndarray:
    params = kv.init({"w": np.zeros(4)})
    for number, x, y in kv.batches((np.arange(100), DATA, TARGET), batch, epochs=epochs, **how):
        if used is not None:
            used.append((kv.clock, number.tolist()))
        off = x @ params["w"] - y
        kv.step({"w": x.T @ off / len(x)}, loss=np.mean(off**2))
    kv.barrier()
    return np.array(params["w"])


def reference(epochs: int = 3, size: int = 32, lr: float = 0.05, unit: int = 1, length: int = 12) -> np.ndarray:
    """Return what one process comes to that computes each step from all of its examples at once."""
    w, velocity, done = np.zeros(4), np.zeros(4), 0
    for epoch in range(epochs):
        order = np.random.default_rng((0, epoch)).permutation(100)
        for at in range(0, 100, size):
            x, y = DATA[order[at : at + size]], TARGET[order[at : at + size]]
            velocity = 0.9 * velocity + x.T @ (x @ w - y) / len(x)
            w = w - lr * (1 + np.cos(np.pi * min(1.0, done / length))) / 2 * velocity
            done += len(x) if unit > 1 else 1
    return w


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize(("batch", "job"), [(8, {}), (7, {"chunk_size": 1024}), (100, {}), (8, {"clip_norm": 1e9})])
def test_any_number_of_workers_and_any_batch_size_give_what_one_process_comes_to(
    loopback: Start, workers: int, batch: int, job: dict[str, Any]
) -> None:
    found = loopback(servers=2, workers=workers, **JOB, **job).run(*[partial(train, batch=batch)] * workers)
    for each in found:
        np.testing.assert_array_equal(each, found[0])
    np.testing.assert_allclose(found[0], reference(), rtol=1e-9)


def test_alone_it_is_the_same(local: Local) -> None:
    np.testing.assert_allclose(train(local(**JOB)), reference(), rtol=1e-9)


def test_two_runs_with_as_many_workers_have_the_same_bits(loopback: Start) -> None:
    first, again = (loopback(workers=3, **JOB).run(*[train] * 3) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_each_example_is_in_one_step_of_an_epoch_and_of_one_worker_alone(loopback: Start, prefetch: int) -> None:
    used: list[list[Any]] = [[], [], []]
    loopback(workers=3, **JOB).run(*[partial(train, used=each, prefetch=prefetch) for each in used])
    for epoch in range(3):
        seen = [(clock // 4, n) for each in used for clock, numbers in each for n in numbers if clock // 4 == epoch]
        assert sorted(seen) == [(epoch, n) for n in range(100)]
    sizes = {clock: sum(len(n) for each in used for c, n in each if c == clock) for clock in range(12)}
    assert [sizes[clock] for clock in range(4)] == [32, 32, 32, 4], "the last step of an epoch has what is left"


def test_more_workers_than_a_step_has_examples_take_turns_at_having_none(loopback: Start) -> None:
    job = {**JOB, "global_batch": 3, "schedule": "constant"}
    found = loopback(workers=5, **job).run(*[partial(train, epochs=1)] * 5)
    assert {tuple(each) for each in found} == {tuple(found[0])}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_loop_of_ones_own_says_how_many_examples_a_batch_has(loopback: Start, workers: int) -> None:
    def loop(kv: KV) -> tuple[int, float]:
        params = kv.init({"w": np.zeros(1)})
        for value in (1.0, 2.0, 3.0, 6.0) * workers:
            if kv.clock < 1:
                kv.step({"w": np.array([value])}, examples=12 // workers)
        return kv.clock, float(params["w"][0])

    job = {"optimizer": "sgd:lr=1", "global_batch": 48}
    found = loopback(workers=workers, **job).run(*[loop] * workers)
    assert found == [(1, -3.0)] * workers


def test_gradients_that_are_announced_are_sent_with_the_step_alone(loopback: Start) -> None:
    def loop(kv: KV) -> np.ndarray:
        params = kv.init({"w": np.zeros(4)})
        for _, x, y in kv.batches((np.arange(100), DATA, TARGET), 8, epochs=3):
            kv.ready("w", x.T @ (x @ params["w"] - y) / len(x))
            kv.step({})
        return np.array(params["w"])

    for found in loopback(workers=2, **JOB).run(loop, loop):
        np.testing.assert_allclose(found, reference(), rtol=1e-9)


def test_half_precision_is_added_up_in_float32(loopback: Start) -> None:
    def loop(kv: KV) -> float:
        params = kv.init({"w": np.zeros(1, np.float16)})
        for number, _ in enumerate(kv.batches(np.arange(4), 1)):
            kv.step({"w": np.array([2048.0 if number == 0 else 1.0], np.float16)})
        return float(params["w"][0])

    assert loopback(optimizer="sgd:lr=1", global_batch=4).run(loop) == [pytest.approx(-512.75, abs=0.3)]


def test_a_schedule_by_examples_goes_on_by_what_all_workers_have_seen(loopback: Start) -> None:
    job = {**JOB, "schedule": "cosine:steps=300", "schedule_unit": "examples"}
    expected = reference(unit=2, length=300)
    for workers in (1, 3):
        found = loopback(workers=workers, **job).run(*[train] * workers)
        np.testing.assert_allclose(found[0], expected, rtol=1e-9)


def test_a_schedule_by_examples_alone_and_with_clipping_is_the_same(local: Local, loopback: Start) -> None:
    job = {**JOB, "schedule": "cosine:steps=300", "schedule_unit": "examples", "clip_norm": 1e9}
    np.testing.assert_allclose(train(local(**job)), reference(unit=2, length=300), rtol=1e-9)
    [found] = loopback(**job).run(train)
    np.testing.assert_allclose(found, reference(unit=2, length=300), rtol=1e-9)


def test_the_record_has_a_line_for_each_step_with_means_and_what_all_have_contributed(
    local: Local, tmp_path: Path
) -> None:
    kv = local(**JOB, log=StepLog(str(tmp_path)))
    train(kv, epochs=1)
    kv.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["clock"], line["samples"], line["contributors"], line["examples"]) for line in lines] == [
        (0, 32, 1, 32.0),
        (1, 32, 1, 32.0),
        (2, 32, 1, 32.0),
        (3, 4, 1, 4.0),
    ]
    order = np.random.default_rng((0, 0)).permutation(100)[:32]
    assert lines[0]["loss"] == pytest.approx(np.mean(TARGET[order] ** 2))


def test_a_batch_that_is_skipped_takes_the_whole_step_with_it(loopback: Start) -> None:
    def loop(kv: KV) -> tuple[int, bool, float]:
        params = kv.init({"w": np.zeros(1)})
        for number, _ in enumerate(kv.batches(np.arange(16), 4)):
            if kv.rank == 0 and number == 0:
                kv.skip()
            else:
                kv.step({"w": np.ones(1)})
        return kv.clock, kv.skipped, float(params["w"][0])

    found = loopback(workers=2, optimizer="sgd:lr=1", global_batch=16).run(loop, loop)
    assert found == [(1, True, 0.0)] * 2


def test_a_gradient_that_is_no_number_is_left_out_where_the_job_says_so_and_else_ends_it(loopback: Start) -> None:
    def loop(kv: KV) -> float:
        params = kv.init({"w": np.zeros(1)})
        for number, _ in enumerate(kv.batches(np.arange(16), 4)):
            kv.step({"w": np.array([np.nan if number == 1 else number + 1.0])})
        return float(params["w"][0])

    job = {"optimizer": "sgd:lr=1", "global_batch": 16}
    assert loopback(on_nan="skip", **job).run(loop) == [pytest.approx(-(1 + 3 + 4) / 3)]
    with pytest.raises(GradientError):
        loopback(**job).run(loop)


def test_tensors_without_a_gradient_in_any_batch_of_a_step_stay_as_they_are(loopback: Start) -> None:
    def loop(kv: KV) -> list[float]:
        params = kv.init({"a": np.zeros(1), "b": np.zeros(1)})
        for number, _ in enumerate(kv.batches(np.arange(16), 4)):
            grads = {"a": np.ones(1)} if number < 3 else {"a": np.ones(1), "b": np.ones(1)}
            kv.step({name: grads[name] for name in grads if name != "b" or kv.clock}, partial=True)
        return [float(params[name][0]) for name in ("a", "b")]

    assert loopback(optimizer="momentum:lr=1", global_batch=8).run(loop) == [[-2.9, pytest.approx(-0.5)]]


def test_what_cannot_be_shared_out_so_is_refused_by_name(loopback: Start) -> None:
    def refused(kv: KV, use: Callable[[KV], Any]) -> str:
        kv.init({"w": np.zeros(1)})
        with pytest.raises((UsageError, DataError)) as error:
            use(kv)
        return str(error.value)

    for use, words in (
        (lambda kv: kv.step({"w": np.ones(1)}), r"say how many examples a batch has"),
        (lambda kv: kv.push({"w": np.ones(1)}), "give each with kv.step"),
        (lambda kv: kv.batches(iter([1, 2]), 1), "they need an index"),
        (lambda kv: kv.batches(np.arange(9), 1), "global_batch = 16 is more than the 9 examples"),
        (lambda kv: list(kv.batches(np.arange(64), 4)), "is followed by kv.step before the next one is taken"),
    ):
        [found] = loopback(global_batch=16).run(partial(refused, use=use))
        assert words in found, found
