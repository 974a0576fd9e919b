"""What went wrong in other pipelines, tried on this one, with stages on several workers: labels of other examples,
gradients that nobody needs, NaN in a backward pass, and activations that are larger than all room for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

from ps.errors import GradientError, PeerLost
from ps.models import softmax_cross_entropy
from ps.pipeline import Pipeline, SummedLoss
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.pipeline import peers
from ps.worker.pipeline.line import IncomingLine, OutgoingLine
from support.loopback import BOUND
from support.pipeline_job import X, Y, assert_same, layers, script, whole
from support.pipeline_layers import Forgetful, Linear, Masked, Plain

Start = Callable[..., LocalCluster]


class Numbered(Plain):
    """Works with the examples, and passes on what they are numbered."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def init(self, rng: np.random.Generator) -> Any:
        return self.inner.init(rng)

    def forward(self, params: Mapping[str, Any], x: Any) -> Any:
        y, saved = self.inner.forward(params, x[0])
        return (y, x[1]), saved

    def backward(self, params: Mapping[str, Any], saved: Any, dy: Any) -> Any:
        dx, grads = self.inner.backward(params, saved, dy[0])
        return (dx, None), grads


def test_labels_are_those_that_came_with_the_inputs_whatever_other_scripts_iterate_over(loopback: Start) -> None:
    seen: list[int] = []

    def loss(output: Any, labels: Any) -> Any:
        (scores, numbers), (classes, others) = output, labels
        assert np.array_equal(numbers, others), "labels of other examples"
        seen.extend(numbers.tolist())
        value, gradient = softmax_cross_entropy(scores, classes)
        return value, (gradient, None)

    def train(kv: KV) -> None:
        random = np.random.default_rng(kv.rank)  # each script has an order, and changes labels, of its own
        pipe = Pipeline(
            [Numbered(layer) for layer in layers()], SummedLoss(loss, of=lambda labels: len(labels[0])), schedule="1f1b"
        )
        pipe.init(kv)
        for _ in range(4):
            rows = random.permutation(96)[: 24 + 8 * kv.rank]
            classes = random.integers(0, 4, len(rows))
            pipe.step((X[rows], rows), (classes, rows), microbatches=3)

    loopback(mode="pipeline", workers=3).run(*[train] * 3)
    first = np.random.default_rng(0)
    expected = []
    for _ in range(4):
        expected += first.permutation(96)[:24].tolist()
        first.integers(0, 4, 24)
    checked = len(seen) - 4 * 24
    assert seen[checked:] == expected, "behind what the first two micro-batches were checked with"


@pytest.mark.parametrize("kinds", [{"0.*": "frozen", "4.*": "frozen"}, {"0.*": "frozen", "1.*": "frozen"}])
@pytest.mark.parametrize("schedule", ["1f1b", "zero-bubble"])
def test_stages_that_are_frozen_hold_up_nobody(
    loopback: Start, local: Callable[..., KV], kinds: dict[str, str], schedule: str
) -> None:
    found = loopback(mode="pipeline", workers=4).run(*[lambda kv: script(kv, kinds=kinds, schedule=schedule)] * 4)
    assert_same(whole(found), script(local(), kinds=kinds)[0])


def test_trees_go_between_workers_and_no_gradient_where_an_output_does_not_depend_on_the_input(
    loopback: Start, local: Callable[..., KV]
) -> None:
    def train(kv: KV) -> Any:
        made = [Linear(6, 5), Forgetful(), Masked(adds=True), Masked(adds=False), Linear(5, 4)]
        pipe = Pipeline(made, softmax_cross_entropy, inexact=True)
        pipe.init(kv, seed=1)
        losses = [pipe.step(X[:12], Y[:12], microbatches=3) for _ in range(3)]
        return {name: np.array(value) for name, value in kv.params.items()}, losses

    found = loopback(mode="pipeline", workers=5).run(*[train] * 5)
    assert_same(whole(found), train(local())[0])


def test_who_waits_for_servers_sends_at_once_what_there_was_no_room_for(
    loopback: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last stage has all gradients before there is room for them, and goes on to the servers. None of its looks at
    what others say may be one that only time brings."""
    monkeypatch.setattr("ps.worker.exchange.SLICE", 1000 * BOUND)
    job = loopback(mode="pipeline", workers=2, transport="auto")

    def train(kv: KV) -> int:
        pipe = Pipeline(layers(), softmax_cross_entropy, schedule="fill-drain", inexact=True)
        pipe.init(kv)
        for _ in range(6):
            pipe.step(X[:32], Y[:32], microbatches=16)
        return kv.clock

    began = time.monotonic()
    assert job.run(train, train) == [6, 6]
    assert time.monotonic() - began < BOUND


class Broken(Linear):
    """Its backward pass returns NaN in the second step."""

    steps = 0

    def backward(self, params: Mapping[str, Any], saved: Any, dy: Any) -> Any:
        dx, grads = super().backward(params, saved, dy)
        self.steps += 1
        return dx, {name: value + np.float32(np.nan if self.steps > 2 else 0) for name, value in grads.items()}


def test_nan_in_a_backward_pass_alone_is_named_and_nobody_hangs_nor_applies_it(loopback: Start) -> None:
    def train(kv: KV) -> tuple[int, str]:
        pipe = Pipeline([Linear(6, 6), Broken(6, 6), Linear(6, 4)], softmax_cross_entropy)
        pipe.init(kv)
        try:
            for _ in range(3):
                pipe.step(X[:8], Y[:8], microbatches=2)
        except (GradientError, PeerLost) as error:
            assert all(np.isfinite(value).all() for value in kv.params.values())
            return kv.clock, f"{type(error).__name__}: {error}"
        return kv.clock, ""

    found = loopback(mode="pipeline", workers=3).run(*[train] * 3)
    assert found[1][0] == 1
    assert found[1][1].startswith("GradientError: ") and "1.w" in found[1][1] and "nan at" in found[1][1]
    for rank in (0, 2):
        assert "worker 1 is gone" in found[rank][1]


@pytest.mark.parametrize("transport", ["tcp", "auto"])
def test_activations_larger_than_what_may_be_under_way_cross_each_other(
    loopback: Start, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, rows, width = 1 << 18, 16, 1 << 14  # bytes, of which each activation has four times as many
    monkeypatch.setattr(peers, "OutgoingLine", partial(OutgoingLine, window=1, part=room // 4, flying=room))
    monkeypatch.setattr(peers, "IncomingLine", partial(IncomingLine, window=1, flying=room))

    class Wide(Plain):
        def init(self, rng: np.random.Generator) -> Any:
            return {"w": np.ones(1, np.float32)}

        def forward(self, params: Mapping[str, Any], x: Any) -> Any:
            return np.broadcast_to(x[:, :1] * params["w"], (len(x), width)).copy(), x[:, :1]

        def backward(self, params: Mapping[str, Any], saved: Any, dy: Any) -> Any:
            dx = np.broadcast_to(dy[:, :1] * params["w"], (len(dy), width)).copy()
            return dx, {"w": np.sum(dy[:, :1] * saved, keepdims=True).reshape(1)}

    def train(kv: KV) -> float:
        summed = SummedLoss(lambda output, y: (float(output[:, 0].sum()), np.ones_like(output)), of=len)
        pipe = Pipeline([Wide() for _ in range(4)], summed, inexact=True)
        pipe.init(kv)
        batch = np.ones((5 * rows, 1), np.float32)
        return [pipe.step(batch, batch[:, 0], microbatches=5) for _ in range(2)][-1]

    job = loopback(mode="pipeline", workers=2, stages=4, pipeline_workers=2, transport=transport, optimizer="sgd:lr=0")
    assert job.run(train, train) == [1.0, 1.0]
