"""Promises of a pipeline with spares: whichever of its workers is lost, at whatever instant, training goes on with the
bits of an undisturbed run. Whole jobs in this process."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from ps.errors import JobEnded, PeerLost, UsageError
from ps.models import softmax_cross_entropy
from ps.pipeline import Pipeline
from ps.protocol.messages import Push, Skip
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.request_queue import RequestQueue
from support.long import cases
from support.mortal import Crew, counted
from support.pipeline_job import X, Y, layers, script
from support.pipeline_layers import Plain
from support.takeovers import assert_undisturbed, run

Start = Callable[..., LocalCluster]
INSTANTS = 200
"""Of a worker's, about: messages that it sends, and actions."""


class Counting(Plain):
    """Has buffers, which each step changes: how many there were, and the mean of what came."""

    def init(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"mean": np.zeros((), np.float32), "steps": np.zeros((), np.int64)}

    def kinds(self) -> dict[str, str]:
        return {"mean": "buffer", "steps": "counter"}

    def forward(self, params: Mapping[str, Any], x: Any) -> Any:
        return x, None

    def forward_at(self, params: Mapping[str, Any], x: Any, at: Any) -> Any:
        params["mean"][...] += x.mean()
        return x, None

    def backward(self, params: Mapping[str, Any], saved: Any, dy: Any) -> Any:
        return dy, {}

    def finish(self, params: Mapping[str, Any]) -> None:
        params["steps"][...] += 1


def counting(kv: KV) -> Any:
    first, second, *rest = layers()
    pipe = Pipeline([first, Counting(), second, Counting(), *rest], softmax_cross_entropy, inexact=True)
    pipe.init(kv, seed=3)
    losses = [pipe.step(x, y, microbatches=3) for x, y in kv.batches((X, Y), batch_size=32, epochs=3)]
    return {name: np.array(value) for name, value in kv.params.items()}, losses


def measuring(kv: KV) -> Any:
    """Measure before, between and after steps, and meet in barriers."""
    pipe = Pipeline(layers(), softmax_cross_entropy)
    pipe.init(kv, seed=3)
    losses = []
    for _ in range(3):
        if kv.rank == 0:
            pipe.accuracy(None, (X, Y), batch_size=37)
        losses += [pipe.step(x, y, microbatches=4) for x, y in kv.batches((X, Y), batch_size=32)]
        kv.barrier()
    return {name: np.array(value) for name, value in kv.params.items()}, losses


def plain(**how: Any) -> Callable[[KV], Any]:
    return lambda kv: script(kv, **how)


KINDS: dict[str, tuple[int, dict[str, Any], Callable[[KV], Any]]] = {
    "several servers": (3, {"servers": 2, "optimizer": "adam:lr=0.05"}, plain()),
    "one norm": (3, {"servers": 2, "clip_norm": 0.1}, plain(microbatches=3)),
    "tied, two stages each": (2, {"stages": 4, "pipeline_workers": 2, "clip_norm": 0.1}, plain(tied=True)),
    "dropout": (3, {}, plain(dropout=True)),
    "frozen": (3, {}, plain(schedule="zero-bubble", kinds={"0.*": "frozen"})),
    "buffers": (3, {"servers": 2}, counting),
    "measured": (3, {}, measuring),
}


@pytest.fixture
def reference(local: Callable[..., KV]) -> Callable[..., Any]:
    def train(script: Callable[[KV], Any], job: dict[str, Any]) -> Any:
        own = {name: value for name, value in job.items() if name not in ("servers", "stages", "pipeline_workers")}
        return script(local(**own))

    return train


@pytest.mark.parametrize("number", range(cases(1, 20)))
@pytest.mark.parametrize("kind", KINDS)
def test_whoever_is_lost_at_whatever_instant_the_bits_are_those_of_one_process(
    loopback: Start, reference: Callable[..., Any], kind: str, number: int
) -> None:
    workers, job, script = KINDS[kind]
    dice = random.Random(f"{kind} {number}")
    rank, instant = dice.randrange(workers), dice.randrange(INSTANTS)
    crew = run(loopback, script, {rank: instant}, workers, 1, **job)
    assert crew.died == [rank] or crew.instants[rank] <= instant
    assert_undisturbed(crew, reference(script, job))


@pytest.mark.parametrize("number", range(cases(2, 30)))
def test_who_took_a_place_may_be_lost_too_and_another_one_at_the_same_time(
    loopback: Start, reference: Callable[..., Any], number: int
) -> None:
    dice = random.Random(number)
    fates = {dice.randrange(3): dice.randrange(INSTANTS), 3: dice.randrange(INSTANTS // 4)}
    if number % 2:
        fates = {rank: dice.randrange(INSTANTS) for rank in (0, 2)}
    crew = run(loopback, plain(), fates, 3, 2, servers=2)
    for rank, instant in fates.items():  # of two spares either may come first
        assert rank in crew.died or rank == 3 or crew.instants[rank] <= instant
    assert_undisturbed(crew, reference(plain(), {}))


def test_two_pipelines_go_on_while_a_worker_of_one_is_replaced(loopback: Start) -> None:
    def train(kv: KV) -> Any:
        return script(kv, batch_size=8)

    expected = loopback(mode="sync", workers=2).run(train, train)[0]
    crew = run(loopback, train, {2: 70}, 4, 1, stages=2)
    assert crew.died == [2]
    assert_undisturbed(crew, expected, pipelines=2)


def test_spares_that_nobody_needs_change_nothing_and_end_with_the_job(
    loopback: Start, reference: Callable[..., Any]
) -> None:
    crew = run(loopback, plain(), {}, 2, 1, clip_norm=0.1)
    assert_undisturbed(crew, reference(plain(), {"clip_norm": 0.1}))
    assert [type(error) for error in crew.errors] == [JobEnded]


def test_nobody_says_a_word_on_others_chunks_before_servers_have_the_gradients_of_all(
    loopback: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, int]] = []
    send = RequestQueue._send

    def noting(queue: RequestQueue, request: Any) -> bool:
        message = request.message
        if isinstance(message, Push | Skip):
            said.append((type(message).__name__, message.clock))
        return send(queue, request)

    monkeypatch.setattr(RequestQueue, "_send", noting)
    run(loopback, plain(), {}, 3, 1)
    for clock in range(9):
        kinds = [kind for kind, at in said if at == clock]
        assert kinds == sorted(kinds) and {"Push", "Skip"} == set(kinds), f"clock {clock}: {kinds}"


def test_data_that_are_drawn_anew_are_refused_when_a_step_is_taken_again(loopback: Start) -> None:
    def train(kv: KV) -> Any:
        noise = np.random.default_rng()
        pipe = Pipeline(layers(), softmax_cross_entropy)
        pipe.init(kv)
        for x, y in kv.batches((X, Y), batch_size=32, epochs=3):
            pipe.step(x + noise.standard_normal(x.shape).astype(np.float32), y, microbatches=4)

    cluster = loopback(mode="pipeline", workers=2, spares=1, timeout=30.0)
    with counted():
        crew = Crew(cluster, train, {0: 62})
        crew.start(3)
        with pytest.raises((UsageError, PeerLost)):
            crew.join()
    said = [str(error) for error in crew.errors if isinstance(error, UsageError)]
    assert said and all("has another batch for step" in text for text in said)


@pytest.mark.parametrize("rank", range(3))
def test_where_a_script_fails_while_the_others_wait_for_its_gradients_nobody_hangs(loopback: Start, rank: int) -> None:
    class Failing(Plain):
        times = 0

        def forward(self, params: Any, x: Any) -> Any:
            return x, None

        def backward(self, params: Any, saved: Any, dy: Any) -> Any:
            self.times += 1
            if self.times == 7:
                raise RuntimeError("this layer is broken")
            return dy, {}

    def train(kv: KV) -> None:
        made = layers()
        made.insert(2 * rank + (rank < 2), Failing())
        pipe = Pipeline(made, softmax_cross_entropy, cuts=[2 + (rank < 1), 4 + (rank < 2)])
        pipe.init(kv)
        for x, y in kv.batches((X, Y), batch_size=32, epochs=3):
            pipe.step(x, y, microbatches=4)

    cluster = loopback(mode="pipeline", workers=3, spares=1, timeout=30.0)
    crew = Crew(cluster, train, {})
    crew.start(4)
    with pytest.raises((RuntimeError, PeerLost, JobEnded)):
        crew.join()
    kinds = sorted(type(error).__name__ for error in crew.errors)
    assert kinds == ["JobEnded", "PeerLost", "PeerLost", "RuntimeError"], crew.errors
    assert any(f"worker {rank} is gone" in str(error) for error in crew.errors if isinstance(error, PeerLost))
