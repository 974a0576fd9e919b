"""KV's steps: bad gradients, skipped steps, learning rates, examples, and lines in the record. Without a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.errors import GradientError, UsageError
from ps.optim import OPTIMIZERS
from ps.worker import KV
from ps.worker.step_log import StepLog
from support.loopback import model
from support.recording import ones, recording

Local = Callable[..., KV]


@pytest.mark.parametrize("verb", ["step", "push", "push_pull"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_named_and_nothing_is_applied(local: Local, verb: str, value: float) -> None:
    kv = local(optimizer="momentum:lr=1")
    params = kv.init(model((3,), (2, 2)))
    before = {name: array.copy() for name, array in params.items()}
    grads = ones(params)
    grads["b"][1, 0] = value
    with pytest.raises(
        GradientError, match=rf"gradient of 'b' is {value} at \(1, 0\), at clock 0; nothing was applied"
    ):
        getattr(kv, verb)(grads)
    np.testing.assert_equal(params, before)
    assert kv.clock == 0
    kv.step(ones(params))
    np.testing.assert_allclose(params["a"], before["a"] - 1, rtol=1e-6)


def test_a_skipped_step_moves_the_clock_and_nothing_else(local: Local, tmp_path: Path) -> None:
    log = StepLog(str(tmp_path))
    kv, other = local(log=log, optimizer="adam:lr=0.1", on_nan="skip"), local(optimizer="adam:lr=0.1")
    params, expected = kv.init(model((3,))), other.init(model((3,)))
    for i in range(4):
        kv.step({"a": np.full(3, np.nan if i == 1 else 1, np.float32)})
        if i != 1:
            other.step({"a": np.ones(3, np.float32)})
    assert kv.clock == 4
    np.testing.assert_array_equal(params["a"], expected["a"])  # Adam's own count leaves it out as well
    log.flush()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("skipped") for line in lines] == [None, 1, None, None]


def test_a_wrong_shape_is_never_skipped(local: Local) -> None:
    kv = local(on_nan="skip")
    kv.init(model((3,)))
    with pytest.raises(GradientError, match="has shape"):
        kv.step({"a": np.ones(4, np.float32)})


@pytest.mark.parametrize("lr", [-1, float("nan"), float("inf"), "fast", None, 1e39, 10**400])
def test_what_is_no_learning_rate_is_refused(local: Local, lr: Any) -> None:
    kv = local()
    kv.init(model((2,)))
    with pytest.raises(
        UsageError, match=r"the learning rate must be a finite number at least 0 and at most 1e\+06, not"
    ):
        kv.set_lr(lr)


def test_a_new_learning_rate_holds_from_the_next_step_on_and_the_schedule_multiplies_it(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1", schedule="step:every=2,gamma=0.5")
    params = kv.init({"w": np.zeros(1)})
    seen = []
    for clock in range(4):
        if clock == 1:
            kv.set_lr(np.float32(10))
        kv.step({"w": np.ones(1)})
        seen.append(-float(params["w"][0]))
    np.testing.assert_allclose(np.diff([0, *seen]), [1, 10, 5, 5])


@pytest.mark.parametrize("verb", ["step", "push", "push_pull"])
def test_a_gradient_weighs_what_its_batch_has_examples(verb: str) -> None:
    kv, store = recording(aggregator="weighted")
    with kv:
        params = kv.init(model((2,)))
        push = getattr(kv, verb)
        push(ones(params))
        for _ in kv.batches(np.arange(9), 5):
            push(ones(params))
        push(ones(params), examples=2.5)
        for wrong in (0, -1, np.nan, "many"):
            with pytest.raises(UsageError, match="examples is the number of examples of a batch"):
                push(ones(params), examples=wrong)
    assert store.examples == [1.0, 4.0, 5.0, 2.5]


@pytest.mark.parametrize("verb", ["step", "push", "push_pull"])
def test_every_clock_has_its_line_in_the_record(local: Local, tmp_path: Path, verb: str) -> None:
    log = StepLog(str(tmp_path))
    kv = local(log=log)
    params = kv.init(model((2,)))
    for _ in range(3):
        getattr(kv, verb)(ones(params))
    kv.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["clock"] for line in lines] == [0, 1, 2]


def test_every_optimizer_steps_as_it_does_alone(local: Local) -> None:
    """The baseline adds nothing of its own: it is the optimizer on one flat vector."""
    from ps.optim import apply

    for name in ("sgd:lr=0.1", "nesterov:lr=0.1", "adam:lr=0.01,weight_decay=0.1", "ftrl:lr=0.1"):
        kv = local(optimizer=name, clip_value=0.5)
        first = model((40, 3), (7,))
        params = kv.init(first)
        optimizer = OPTIMIZERS.parse(name).build()
        weights = np.concatenate([array.ravel() for array in first.values()])
        state = optimizer.init(weights)
        for t in range(1, 5):
            grads = model((40, 3), (7,), seed=t)
            kv.step(grads)
            flat = np.concatenate([array.ravel() for array in grads.values()])
            apply(optimizer, weights, flat, state, lr=optimizer.lr, t=t, clip_value=0.5)
        np.testing.assert_array_equal(np.concatenate([params[n].ravel() for n in params]), weights)


def test_the_status_is_told_how_many_steps_one_call_of_batches_has(local: Local) -> None:
    kv = local()
    params = kv.init(model((2,)))
    for _ in kv.batches(np.arange(12), 4, epochs=2):
        kv.step(ones(params))
        assert kv._store.report()["planned_steps"] == 6
