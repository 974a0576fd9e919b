"""Promises of waves over several workers: the bits of one process with the same delay, whatever else is asked."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.errors import PeerLost, UsageError
from ps.models import softmax_cross_entropy
from ps.pipeline import Pipeline
from ps.testing import LocalCluster
from ps.worker import KV, interrupt
from ps.worker.step_log import StepLog
from support.pipeline_job import X, Y, assert_same, layers, script, stopped, whole
from support.pipeline_layers import Plain

Start = Callable[..., LocalCluster]


@pytest.mark.parametrize(
    ("workers", "job", "how"),
    [
        (2, {"servers": 2, "optimizer": "adam:lr=0.05", "waves": 2}, {}),
        (4, {"clip_norm": 0.1, "waves": 2}, {"microbatches": 3}),
        (3, {"chunk_size": 1024, "waves": 4}, {"schedule": "zero-bubble", "kinds": {"0.*": "frozen"}}),
        (2, {"stages": 4, "pipeline_workers": 2, "waves": 2, "lookahead": 1.0}, {"microbatches": 1}),
        (3, {"stages": 5, "pipeline_workers": 3, "waves": 3}, {"schedule": "interleaved:2", "recompute": True}),
        (3, {"waves": 2}, {"tied": True, "cuts": [2, 4]}),
        (1, {"waves": 20}, {"schedule": "fill-drain"}),
    ],
)
def test_the_parameters_and_losses_are_the_bits_of_one_process(
    loopback: Start, local: Callable[..., KV], workers: int, job: dict[str, Any], how: dict[str, Any]
) -> None:
    found = loopback(mode="pipeline", workers=workers, **job).run(*[lambda kv: script(kv, **how)] * workers)
    alone = {name: value for name, value in job.items() if name not in ("servers", "stages", "pipeline_workers")}
    how = {name: value for name, value in how.items() if name not in ("schedule", "cuts")}
    expected, losses = script(local(mode="pipeline", **alone), **how)
    assert found[0][1] == losses
    assert_same(whole(found), expected)


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_two_pipelines_in_lockstep_are_what_two_workers_with_all_stages_are(
    loopback: Start, clip_norm: float | None
) -> None:
    job = {"mode": "pipeline", "optimizer": "momentum:lr=0.1", "waves": 3, "clip_norm": clip_norm}
    pipelines = loopback(workers=4, stages=2, **job).run(*[lambda kv: script(kv, batch_size=8, dropout=True)] * 4)
    expected = loopback(workers=2, stages=1, **job).run(*[lambda kv: script(kv, batch_size=8, dropout=True)] * 2)
    assert_same(whole(pipelines[:2]), expected[0][0])
    assert_same(whole(pipelines[2:]), expected[0][0])
    assert [losses for _, losses in pipelines[::2]] == [losses for _, losses in expected]


def test_what_is_measured_meanwhile_is_the_model_after_as_many_steps_as_the_clock_says(
    loopback: Start, local: Callable[..., KV]
) -> None:
    def train(kv: KV) -> list[Any]:
        # more forward passes than have room on the way to a stage that measures
        pipe = Pipeline(layers(), softmax_cross_entropy, schedule="fill-drain")
        pipe.init(kv, seed=3)
        found: dict[int, float] = {}

        def measure(params: Any, data: Any) -> float:
            found[kv.clock] = pipe.loss(params, data)
            return found[kv.clock]

        kv.evaluate(measure, (X, Y))
        for _ in kv.batches((X, Y), batch_size=16, epochs=2):
            pipe.step(X[:16], Y[:16], microbatches=8)
            if kv.rank == 0 and kv.clock == 5:
                measure(None, (X, Y))
        if kv.rank == 0:
            measure(None, (X, Y))  # while the others are in the barrier
        kv.barrier()
        if kv.rank == 0:
            measure(None, (X, Y))  # or wait to leave
        return [kv.clock, found]

    job = loopback(mode="pipeline", workers=3, waves=3, eval_every=2)
    assert (clock := job.run(train, train, train)[0]) == train(local(mode="pipeline", waves=3, eval_every=2))
    assert clock[0] == 12
    assert clock[1].keys() == {2, 4, 5, 6, 8, 10, 12}


def test_training_that_is_stopped_ends_everywhere_at_one_clock_with_waves_under_way(loopback: Start) -> None:
    def train(kv: KV) -> tuple[int, dict[str, np.ndarray]]:
        return stopped(kv, 20), {name: np.array(value) for name, value in kv.params.items()}

    found = loopback(mode="pipeline", workers=3, waves=3).run(train, train, train)
    assert len({clock for clock, _ in found}) == 1
    assert 19 <= found[0][0] < 100


def test_a_loop_of_ones_own_ends_where_training_does(loopback: Start) -> None:
    def train(kv: KV) -> int:
        pipe = Pipeline(layers(), softmax_cross_entropy)
        pipe.init(kv)
        while not kv.stopped:
            pipe.step(X, Y, microbatches=2)
            if kv.clock == 5:
                kv.stop("enough")
        return kv.clock

    assert len(set(loopback(mode="pipeline", workers=2, waves=3).run(train, train))) == 1


def test_the_record_has_each_step_with_its_own_loss_and_the_staleness_of_its_weights(
    loopback: Start, local: Callable[..., KV], tmp_path: Any
) -> None:
    def lines(name: object, make: Callable[[StepLog], KV]) -> list[tuple[Any, ...]]:
        log = StepLog(str(tmp_path / str(name)))
        with make(log) as kv:
            script(kv)
        found = map(json.loads, (tmp_path / str(name) / "metrics.jsonl").read_text().splitlines())
        return [tuple(line[key] for key in ("clock", "loss", "staleness")) for line in found]

    expected = lines("alone", lambda log: local(log=log, mode="pipeline", waves=3))
    assert [staleness for *_, staleness in expected] == [0, 1, 2, 2, 2, 2, 2, 2, 2]
    job = loopback(mode="pipeline", workers=2, waves=3)
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda rank: lines(rank, lambda log: KV(job.store(rank), xp.CPU, log)), range(2))
        assert list(found) == [expected, expected]


def test_a_layer_that_fails_ends_the_pipeline_by_name(loopback: Start) -> None:
    class Failing(Plain):
        calls = 0

        def forward(self, params: Any, x: Any) -> Any:
            self.calls += 1
            if self.calls == 7:
                raise OSError("no disk")
            return x, None

        def backward(self, params: Any, saved: Any, dy: Any) -> Any:
            return dy, {}

    said: list[str] = []

    def train(kv: KV) -> None:
        first, *rest = layers()
        pipe = Pipeline([first, Failing(), *rest], softmax_cross_entropy, inexact=True)
        pipe.init(kv)
        try:
            for x, y in kv.batches((X, Y), batch_size=32, epochs=9):
                pipe.step(x, y, microbatches=2)
        except (UsageError, PeerLost) as error:
            said.append(str(error))
            raise

    with pytest.raises((UsageError, PeerLost)):
        loopback(mode="pipeline", workers=3, waves=2).run(train, train, train)
    assert len(said) == 3


def test_after_an_interrupt_in_a_step_the_waves_go_on_and_each_counts_once(
    loopback: Start, local: Callable[..., KV], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupt, "GRACE", 0.0)
    reached = threading.Event()

    class Slow(Plain):
        calls = 0

        def forward(self, params: Any, x: Any) -> Any:
            self.calls += 1
            if self.calls == 5 and threading.current_thread() is not threading.main_thread():
                reached.set()
                assert interrupted.wait(10)
            return x, None

        def backward(self, params: Any, saved: Any, dy: Any) -> Any:
            return dy, {}

    def train(kv: KV) -> dict[str, np.ndarray]:
        first, *rest = layers()
        pipe = Pipeline([first, *rest[:2], Slow(), *rest[2:]], softmax_cross_entropy, cuts=[3], inexact=True)
        pipe.init(kv, seed=3)
        for step in range(6):
            try:
                pipe.step(X[step : step + 32], Y[step : step + 32], microbatches=2)
            except KeyboardInterrupt:
                interrupted.set()
        kv.barrier()
        return {name: np.array(value) for name, value in kv.params.items()}

    def follow() -> dict[str, np.ndarray]:
        with job.connect(1) as kv:
            return train(kv)

    def interrupt_main() -> None:
        assert reached.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    interrupted = threading.Event()
    job = loopback(mode="pipeline", workers=2, waves=3)
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(follow)
        sender = pool.submit(interrupt_main)
        with job.connect(0) as kv:
            own = train(kv)
        sender.result(10)
        found = other.result(10)
    assert interrupted.is_set()
    assert_same({**own, **found}, train(local(mode="pipeline", waves=3)))
