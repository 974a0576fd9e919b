"""Patience: training ends when nothing gets better for long enough, and says what was best; only rank 0 decides."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from ps.errors import UsageError
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.patience import Patience
from support.recording import recording


def looks(patience: Patience, *values: float, name: str = "accuracy") -> list[bool]:
    return [bool(patience.look(10 * number, {name: value})) for number, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("name", "values", "ends"),
    [
        ("accuracy", (0.1, 0.5, 0.4, 0.5, 0.6), [False, False, False, True, False]),
        ("val_loss", (0.9, 0.5, 0.6, 0.4, 0.4, 0.5), [False, False, False, False, False, True]),
        ("accuracy", (math.nan, 0.1, math.nan, math.inf), [False, False, False, True]),
    ],
)
def test_it_runs_out_when_that_many_in_a_row_are_no_better(name: str, values: tuple[float, ...], ends: Any) -> None:
    assert looks(Patience(name, 2, None, None, 0.0), *values, name=name) == ends


def test_less_than_min_delta_better_is_no_better_and_mode_wins_over_the_name() -> None:
    assert looks(Patience("accuracy", 1, None, None, 0.1), 0.5, 0.59, 0.7) == [False, True, False]
    assert looks(Patience("accuracy", 1, None, "min", 0.0), 0.5, 0.4) == [False, False]


def test_the_reason_says_what_was_best_and_when() -> None:
    patience = Patience("f", 1, "accuracy", None, 0.0)
    assert patience.look(100, {"accuracy": 0.931, "loss": 2.0}) == ""
    expected = "accuracy was best at clock 100, 0.931, and has not got better in 1 evaluation since"
    assert patience.look(200, {"accuracy": 0.93, "loss": 1.0}) == expected
    assert Patience("loss", 1, None, None, 0.0).look(1, {"loss": math.nan}) == "loss was never a number"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"patience": 0}, "patience is a number of evaluations, at least 1, not 0"),
        ({"patience": 2.5}, "patience is a number of evaluations"),
        ({"patience": 2, "min_delta": math.nan}, "min_delta"),
        ({"patience": 2, "mode": "up"}, 'mode is "min" or "max"'),
        ({"patience": 2, "monitor": "quality"}, "say which 'quality' is better with patience"),
        ({"monitor": "accuracy"}, "go with patience"),
    ],
)
def test_what_cannot_be_is_refused_at_the_call(arguments: dict[str, Any], text: str) -> None:
    kv, _ = recording()
    with pytest.raises(UsageError, match=text):
        kv.evaluate(lambda params, data: 0.0, None, **arguments)


def test_a_function_with_several_metrics_needs_a_monitor_that_it_measures() -> None:
    kv, _ = recording(eval_every=1)
    kv.init({"w": np.zeros(3, np.float32)})
    kv.evaluate(lambda params, data: {"loss": 1.0, "f1": 0.5}, None, patience=2, mode="max")
    with pytest.raises(UsageError, match="needs monitor=NAME: measured were loss, f1"):
        kv.step({"w": np.ones(3, np.float32)})


def accuracy(params: Any, data: Any) -> float:
    """Is best after 6 updates with -0.1."""
    return 1.0 - abs(float(params["w"][0]) + 0.6)


def train(kv: KV, epochs: int = 1000) -> int:
    kv.init({"w": np.zeros(3, np.float32)})
    kv.evaluate(accuracy, None, patience=2)
    for _ in kv.batches(np.arange(20), 2, epochs=epochs):
        kv.step({"w": np.ones(3, np.float32)})
    return kv.clock


@pytest.mark.parametrize("workers", [1, 2])
def test_in_sync_mode_all_end_one_step_after_the_evaluation_that_was_one_too_many(
    loopback: Callable[..., LocalCluster], workers: int
) -> None:
    job = loopback(workers=workers, eval_every=2, optimizer="sgd:lr=0.1")
    assert job.run(*[train] * workers) == [11] * workers  # 6 was best; 8 and 10 were not better


def test_alone_it_ends_there_as_well_and_without_eval_every_epochs_count(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with recording(eval_every=2, optimizer="sgd:lr=0.1")[0] as kv:
        assert train(kv) == 11
    assert "accuracy was best at clock 6, 1" in caplog.text
    with recording(optimizer="sgd:lr=0.1")[0] as kv:
        assert train(kv) == 31  # an epoch has 10 steps: the first was best


def test_of_a_federated_job_rounds_count(loopback: Callable[..., LocalCluster]) -> None:
    def client(kv: KV) -> int:
        kv.init({"w": np.zeros(3, np.float32)})
        kv.evaluate(partial(_falling, []), None, patience=2, mode="max")
        for _ in kv.batches(np.arange(8), 2):
            kv.step({"w": np.ones(3, np.float32)})
        return kv.clock

    [rounds] = loopback(workers=1, mode="federated", rounds=1000, local_steps=1).run(client)
    assert 2 < rounds < 10


def _falling(seen: list[int], params: Any, data: Any) -> dict[str, float]:
    seen.append(1)
    return {"accuracy": -float(len(seen))}


def test_nothing_is_said_of_what_was_never_measured() -> None:
    patience = Patience("accuracy", 1, None, None, 0.0)
    with pytest.raises(UsageError, match="needs monitor=NAME"):
        patience.look(1, {"loss": 1.0, "accuracy": 0.5})
    assert not patience.looked
    patience.look(1, {"accuracy": 0.5})
    assert patience.looked


def test_where_nobody_knows_an_epochs_steps_it_is_said_that_nothing_is_counted(
    local: Callable[..., KV], caplog: pytest.LogCaptureFixture
) -> None:
    def stream(kv: KV) -> None:
        kv.init({"w": np.zeros(3, np.float32)})
        kv.evaluate(accuracy, None, patience=1)
        for _ in kv.batches(iter(np.ones((20, 3), np.float32)), 4):
            kv.step({"w": np.ones(3, np.float32)})

    stream(local())
    assert sum(line.startswith("patience has no evaluations to count: nobody knows") for line in caplog.messages) == 1
    caplog.clear()
    stream(local(eval_every=2))
    assert not any("patience has no" in line for line in caplog.messages)
