"""Promises of a pipeline whose stages are on several workers: the bits of one process, nothing of other stages, and
measuring whenever the first worker's script likes. A whole job in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ps
from ps.errors import DataError, GradientError, PeerLost, StateError, UsageError
from ps.models import softmax_cross_entropy
from ps.pipeline import Pipeline
from ps.testing import LocalCluster
from ps.worker import KV
from support.pipeline_job import Found, X, Y, assert_same, layers, script, whole
from support.pipeline_layers import Linear, Plain

Start = Callable[..., LocalCluster]


@pytest.mark.parametrize(
    ("workers", "job", "how"),
    [
        (2, {"servers": 2, "optimizer": "adam:lr=0.05"}, {}),
        (4, {"clip_norm": 0.1}, {"microbatches": 3}),
        (3, {"chunk_size": 1024}, {"schedule": "zero-bubble", "kinds": {"0.*": "frozen"}}),
        (2, {"stages": 4, "pipeline_workers": 2}, {"microbatches": 1}),
        (3, {"stages": 5, "pipeline_workers": 3}, {"schedule": "interleaved:2", "recompute": True}),
        (3, {}, {"tied": True, "cuts": [2, 4]}),
        (2, {"stages": 4, "pipeline_workers": 2, "clip_norm": 0.1}, {"tied": True}),
        (1, {}, {"schedule": "fill-drain"}),
    ],
)
def test_the_parameters_and_losses_are_the_bits_of_one_process(
    loopback: Start, local: Callable[..., KV], workers: int, job: dict[str, Any], how: dict[str, Any]
) -> None:
    cluster = loopback(mode="pipeline", workers=workers, **job)
    found = cluster.run(*[lambda kv: script(kv, **how)] * workers)
    alone = {name: value for name, value in job.items() if name not in ("servers", "stages", "pipeline_workers")}
    how = {name: value for name, value in how.items() if name not in ("schedule", "cuts")}
    expected, losses = script(local(**alone), **how)
    assert found[0][1] == losses
    if workers > 1:
        assert all(len(params) < len(expected) for params, _ in found)
    assert_same(whole(found), expected)


@pytest.mark.parametrize("dropout", [False, True])
def test_two_pipelines_are_what_two_workers_with_the_whole_model_are(loopback: Start, dropout: bool) -> None:
    def train(kv: KV) -> Found:
        return script(kv, batch_size=8, dropout=dropout)

    pipelines = loopback(mode="pipeline", workers=4, stages=2, optimizer="momentum:lr=0.1").run(*[train] * 4)
    expected = loopback(mode="sync", workers=2, optimizer="momentum:lr=0.1").run(*[train] * 2)
    assert_same(whole(pipelines[:2]), expected[0][0])
    assert_same(whole(pipelines[2:]), expected[0][0])
    assert [losses for _, losses in pipelines[::2]] == [losses for _, losses in expected]


def test_a_job_begins_with_a_file_wherever_the_model_is_cut(
    loopback: Start, local: Callable[..., KV], tmp_path: Any
) -> None:
    path = tmp_path / "first.safetensors"
    kv = local()
    pipe = Pipeline(layers(), softmax_cross_entropy)
    pipe.init(kv, seed=11)
    kv.save(path)
    expected, _ = script(local(init=str(path)))
    found = loopback(mode="pipeline", workers=3, init=str(path), servers=2).run(*[script] * 3)
    assert_same(whole(found), expected)


def test_who_follows_the_job_has_the_whole_model(loopback: Start, local: Callable[..., KV]) -> None:
    job = loopback(mode="pipeline", workers=2, servers=2)

    def train(kv: KV) -> Found:
        found = script(kv)
        kv.barrier()
        if kv.rank == 0:
            with ps.follow(job.address, every=0) as snapshots:
                snapshot = next(snapshots)
            return {name: np.array(snapshot[name]) for name in snapshot}, found[1]
        return found

    assert_same(job.run(train, train)[0][0], script(local())[0])


def test_only_the_first_stages_worker_reads_the_data(loopback: Start) -> None:
    class Examples:
        def __init__(self) -> None:
            self.read: set[int] = set()

        def __len__(self) -> int:
            return 96

        def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
            self.read.add(index)
            return X[index], int(Y[index])

    def train(kv: KV) -> tuple[int, int]:
        pipe, data = Pipeline(layers(), softmax_cross_entropy), Examples()
        pipe.init(kv)
        for x, y in kv.batches(data, batch_size=32):
            assert len(x) == len(y) == 32
            pipe.step(x, y, microbatches=2)
        return kv.clock, len(data.read)

    assert loopback(mode="pipeline", workers=2).run(train, train) == [(3, 96), (3, 1)]


def test_the_first_worker_measures_whenever_it_likes_and_the_numbers_are_those_of_one_process(
    loopback: Start, local: Callable[..., KV]
) -> None:
    def train(kv: KV) -> list[float]:
        pipe = Pipeline(layers(), softmax_cross_entropy)
        pipe.init(kv, seed=3)
        kv.evaluate(lambda params, data: found.append(pipe.accuracy(params, data)) or 0.0, (X, Y))
        found: list[float] = []
        if kv.rank == 0:
            found.append(pipe.loss(None, (X, Y), batch_size=37))
        for step, (x, y) in enumerate(kv.batches((X, Y), batch_size=32)):
            pipe.step(x, y, microbatches=2)
            if kv.rank == 0 and step == 1:
                found.append(pipe.accuracy(None, (X, Y), batch_size=37))
        if kv.rank == 0:
            found.append(pipe.accuracy(None, (X, Y)))  # while the others are in the barrier
        kv.barrier()
        if kv.rank == 0:
            found.append(pipe.loss(None, (X, Y)))  # or wait to leave
        return list(found)  # without that of the end

    job = loopback(mode="pipeline", workers=3, eval_every=2)
    assert job.run(train, train, train)[0] == (expected := train(local(eval_every=2)))
    assert len(expected) == 5


def test_the_first_worker_may_be_alone_in_a_barrier_while_the_others_wait_to_leave(loopback: Start) -> None:
    def train(kv: KV) -> float:
        pipe = Pipeline(layers(), softmax_cross_entropy)
        pipe.init(kv)
        pipe.step(X, Y)
        if kv.rank:
            return 0.0
        kv.barrier()
        kv.barrier()
        return pipe.loss(None, (X, Y))

    assert loopback(mode="pipeline", workers=2).run(train, train)[0] > 0


def test_a_script_that_takes_too_few_or_too_many_steps_hangs_nobody(loopback: Start) -> None:
    def train(kv: KV, steps: int) -> int:
        pipe = Pipeline(layers(), softmax_cross_entropy)
        pipe.init(kv)
        for _ in range(steps):
            pipe.step(X, Y)
        return kv.clock

    with pytest.raises(PeerLost, match=r"worker 0 has no more batches, and this worker waits for one"):
        loopback(mode="pipeline", workers=2).run(lambda kv: train(kv, 2), lambda kv: train(kv, 3))
    with pytest.raises(PeerLost, match=r"worker 1 is gone, and .* of step 2 was to come from it"):
        loopback(mode="pipeline", workers=2).run(lambda kv: train(kv, 3), lambda kv: train(kv, 2))


def test_a_worker_whose_script_fails_ends_its_pipeline_by_name(loopback: Start) -> None:
    class Failing:
        def __init__(self) -> None:
            self.inner = layers()[1]
            self.calls = 0

        def init(self, rng: np.random.Generator) -> Any:
            return self.inner.init(rng)

        def forward(self, params: Any, x: Any) -> Any:
            self.calls += 1
            if self.calls == 7:
                raise OSError("no disk")
            return self.inner.forward(params, x)

        def backward(self, params: Any, saved: Any, dy: Any) -> Any:
            return self.inner.backward(params, saved, dy)

    said: list[str] = []

    def train(kv: KV) -> None:
        first, _, *rest = layers()
        pipe = Pipeline([first, Failing(), *rest], softmax_cross_entropy, inexact=True)
        pipe.init(kv)
        try:
            for x, y in kv.batches((X, Y), batch_size=32, epochs=9):
                pipe.step(x, y, microbatches=2)
        except (UsageError, PeerLost) as error:
            said.append(str(error))
            if kv.rank == 0:
                with pytest.raises(StateError, match="broken off"):
                    pipe.step(x, y)
            raise

    job = loopback(mode="pipeline", workers=3, stages=3)
    with pytest.raises((UsageError, PeerLost)):
        job.run(train, train, train)
    assert len(said) == 3
    assert any("OSError: no disk" in text for text in said)
    assert sum("is gone, and" in text for text in said) == 2


@pytest.mark.parametrize(
    ("job", "how", "said"),
    [
        ({"workers": 2}, {"cuts": 3}, r"cuts the model into 3 stages, and the job has 2: start it with --stages 3"),
        ({"workers": 2, "stages": 2}, {"schedule": "interleaved:2"}, r"has 1 workers for 2 stages, and the job 2"),
        ({"workers": 7, "stages": 7}, {}, r"5 layers can be cut into 1 to 5 stages, not 7"),
    ],
)
def test_a_model_that_is_not_cut_as_the_job_has_it_is_refused(
    loopback: Start, job: dict[str, Any], how: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        loopback(mode="pipeline", **job).run(*[lambda kv: script(kv, **how)] * job["workers"])


def test_what_needs_the_whole_model_is_refused_by_name(loopback: Start) -> None:
    def train(kv: KV) -> None:
        with pytest.raises(UsageError, match=r"make it a ps\.Pipeline"):
            kv.init({"w": np.zeros(3, np.float32)})
        pipe = ps.Pipeline(layers(), softmax_cross_entropy)
        params = pipe.init(kv)
        with pytest.raises(DataError, match="a stream has no length"):
            kv.batches(iter([(X, Y)]))
        if kv.rank == 0:
            with pytest.raises(UsageError, match="as they are, no others"):
                pipe.outputs(X, {name: value + 1 for name, value in params.items()})
        else:
            with pytest.raises(UsageError, match=r"of rank 0, and this is worker 1"):
                pipe.outputs(X)

    loopback(mode="pipeline", workers=2).run(train, train)


class Squared(Plain):
    """Has no room for the square of large numbers."""

    def forward(self, params: Any, x: Any) -> Any:
        with np.errstate(over="ignore"):
            return x * x, x

    def backward(self, params: Any, saved: Any, dy: Any) -> Any:
        return 2 * saved * dy, {}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("on_nan", ["fail", "ignore"])
def test_where_nan_comes_from_is_told_by_all_and_nothing_is_applied(loopback: Start, on_nan: str) -> None:
    x = X.copy()
    x[38] = 1e30

    def train(kv: KV) -> tuple[int, str]:
        pipe = Pipeline([Linear(6, 6), Linear(6, 6), Squared(), Linear(6, 4)], softmax_cross_entropy)
        pipe.init(kv)
        try:
            for step in range(3):
                rows = slice(32 * step, 32 * step + 32)
                pipe.step(x[rows], Y[rows], microbatches=4)
        except GradientError as error:
            return kv.clock, str(error)
        return kv.clock, ""

    found = loopback(mode="pipeline", workers=4, stages=4, on_nan=on_nan, optimizer="sgd:lr=0.001").run(*[train] * 4)
    if on_nan == "ignore":
        assert found == [(3, "")] * 4
        return
    assert {clock for clock, _ in found} == {1}
    [told] = {text for _, text in found}
    assert "the loss of step 1 is nan; nothing was applied" in told
    assert told.endswith("layer 2 (Squared), in stage 2, returned NaN or Inf first, for micro-batch 0")
