"""Training through a codec reaches what training without one does; forgetting the error does not."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from ps.compress import CODECS, DOWN, Downlink, Key, Uplink
from ps.data import digits
from ps.models import softmax
from ps.optim import OPTIMIZERS, apply

WORKERS, STEPS = 2, 150


def train(text: str, *, memory: bool = True, down: bool = False, optimizer: str = "sgd:lr=0.5") -> float:
    """Return the training loss of softmax regression on the digits after some steps of two workers."""
    data, _ = digits()
    params = softmax.init([64, 10])
    weights = np.concatenate([value.ravel() for value in params.values()])
    replica, shadow = weights.copy(), weights.copy()
    views = {"layer0/weight": replica[:640].reshape(64, 10), "layer0/bias": replica[640:]}
    ups = [Uplink(CODECS.parse(text)) for _ in range(WORKERS)]
    states = [up.init(weights) for up in ups]
    link = Downlink(CODECS.parse(text))
    link_state = link.init(weights)
    rule = OPTIMIZERS.parse(optimizer).build()
    slots = rule.init(weights)
    rng = np.random.default_rng(0)
    for clock in range(STEPS):
        mean = np.zeros_like(weights)
        for rank, (up, state) in enumerate(zip(ups, states, strict=True)):
            batch = rng.choice(len(data), 128, replace=False)
            _, grads = softmax.loss_and_grad(views, data.x[batch], data.y[batch])
            g = np.concatenate([np.asarray(grads[name]).ravel() for name in params])
            key = Key(0, clock, 0, rank)
            frame = up.encode(g, state, key) if memory else up.codec.encode(g, key, up.codec.init(g))
            up.codec.open(frame, g.size, g.dtype, key).add_to(mean)
        apply(rule, weights, mean / np.float32(WORKERS), slots, lr=rule.lr, t=clock + 1)
        if down:
            key = Key(0, clock, 0, DOWN)
            link.follow(link.encode(weights, shadow, link_state, key), replica, key)
        else:
            replica[:] = weights
    return float(softmax.loss_and_grad(views, data.x, data.y)[0])


uncompressed = functools.cache(lambda optimizer: train("none", optimizer=optimizer))


@pytest.mark.parametrize("text", ["fp16", "bf16", "int8", "onebit", "topk:0.05", "randomk:0.1", "powersgd:2"])
@pytest.mark.parametrize("down", [False, True], ids=["up", "both ways"])
def test_the_loss_is_nearly_that_without_compression(text: str, down: bool) -> None:
    tolerance = {"fp16": 0.005, "bf16": 0.01, "int8": 0.02}.get(text, 0.25)
    assert train(text, down=down) == pytest.approx(uncompressed("sgd:lr=0.5"), rel=tolerance)


def test_deep_gradient_compression_is_nearly_momentum_sgd() -> None:
    slow = "sgd:lr=0.05"
    compressed = train("topk:0.01,momentum=0.9,warmup=20", optimizer=slow)
    assert compressed == pytest.approx(uncompressed("momentum:lr=0.05,momentum=0.9"), rel=0.25)
    assert compressed < 0.4 * train("topk:0.01", optimizer=slow)


@pytest.mark.parametrize("text", ["onebit", "topk:0.01", "randomk:0.05", "powersgd:1"])
def test_without_memory_it_is_visibly_worse(text: str) -> None:
    with_memory, without = train(text), train(text, memory=False)
    assert without > 1.2 * with_memory
