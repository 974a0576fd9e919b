"""Every optimizer does what its paper and other libraries do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ps import xp
from ps.errors import ConfigError
from ps.optim import OPTIMIZERS, Optimizer, Workspace, apply
from ps.spec import Spec

PINNED = json.loads((Path(__file__).parent / "data" / "trajectories.json").read_text())

BLOCK = 64
SIZES = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7)

Step = Callable[[np.ndarray, np.ndarray, int, float], np.ndarray]


def reference(spec: Spec[Optimizer], w0: np.ndarray) -> Step:
    """Return ``step(w, g, t, lr) -> w``, written from the papers' equations, in float64."""
    h = dict(spec.numbers)
    decay = h.get("weight_decay", 0.0)
    m, v, z = np.zeros_like(w0), np.zeros_like(w0), np.zeros_like(w0)
    v += h.get("initial", h.get("tau", 0.0) ** 2)
    if spec.name == "ftrl":
        z = -w0 * (h["beta"] / h["lr"] + h["l2"]) - np.sign(w0) * h["l1"]

    def step(w: np.ndarray, g: np.ndarray, t: int, lr: float) -> np.ndarray:
        nonlocal m, v, z
        if spec.name in ("adam", "adamw"):
            w, g = (w - lr * decay * w, g) if spec.name == "adamw" else (w, g + decay * w)
            m = h["beta1"] * m + (1 - h["beta1"]) * g
            v = h["beta2"] * v + (1 - h["beta2"]) * g**2
            return w - lr * (m / (1 - h["beta1"] ** t)) / (np.sqrt(v / (1 - h["beta2"] ** t)) + h["eps"])
        if spec.name == "lion":
            c = h["beta1"] * m + (1 - h["beta1"]) * g
            m = h["beta2"] * m + (1 - h["beta2"]) * g
            return w - lr * (np.sign(c) + decay * w)
        if spec.name == "ftrl":
            sigma = (np.sqrt(v + g**2) - np.sqrt(v)) / h["lr"]
            z, v = z + g * lr / h["lr"] - sigma * w, v + g**2
            leader = -(z - np.sign(z) * h["l1"]) / ((h["beta"] + np.sqrt(v)) / h["lr"] + h["l2"])
            return np.where(np.abs(z) <= h["l1"], 0.0, leader)
        g = g + decay * w
        if spec.name == "adagrad":
            v = v + g**2
            return w - lr / (1 + (t - 1) * h["lr_decay"]) * g / (np.sqrt(v) + h["eps"])
        if spec.name.startswith("fed"):
            m = h["beta1"] * m + (1 - h["beta1"]) * g
            v = {
                "fedadagrad": lambda: v + g**2,
                "fedadam": lambda: h["beta2"] * v + (1 - h["beta2"]) * g**2,
                "fedyogi": lambda: v - (1 - h["beta2"]) * g**2 * np.sign(v - g**2),
            }[spec.name]()
            return w - lr * m / (np.sqrt(v) + h["tau"])
        if spec.name == "rmsprop":
            v = h["alpha"] * v + (1 - h["alpha"]) * g**2
            return w - lr * g / (np.sqrt(v) + h["eps"])
        m = h.get("momentum", 0.0) * m + g
        return w - lr * (g + h["momentum"] * m if spec.name == "nesterov" else m)

    return step


@pytest.fixture(params=["numpy", "cupy"])
def device(request: pytest.FixtureRequest) -> Iterator[xp.Device]:
    if request.param == "cupy" and xp.cupy() is None:
        pytest.skip("no cupy or no CUDA device")
    yield xp.device("cuda" if request.param == "cupy" else "cpu")


SPECS = [
    *OPTIMIZERS,
    "sgd:lr=0.1,weight_decay=0.05",
    "momentum:lr=0.1,weight_decay=0.05",
    "nesterov:lr=0.1,weight_decay=0.05",
    "adagrad:lr=0.1,lr_decay=0.1,initial=0.2,weight_decay=0.05",
    "rmsprop:lr=0.1,weight_decay=0.05",
    "adam:lr=0.1,weight_decay=0.05,eps=1e-3",
    "adam:beta1=0,beta2=0",
    "adamw:lr=0.1,weight_decay=0.5",
    "lion:lr=0.1,weight_decay=0.5",
    "ftrl:lr=0.3,l1=0.4,l2=0.2,beta=0.5",
    "fedadagrad:lr=0.1,beta1=0.8,tau=0.1,weight_decay=0.05",
    "fedadam:lr=0.1,beta1=0.8,beta2=0.7,tau=0.1,weight_decay=0.05",
    "fedyogi:lr=0.1,beta1=0.8,beta2=0.7,tau=0.5,weight_decay=0.05",
    "fedyogi:lr=0.1,beta1=0,tau=2",
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", SPECS)
def test_steps_are_those_of_the_paper_at_every_size(text: str, dtype: str, device: xp.Device) -> None:
    spec = OPTIMIZERS.parse(text)
    optimizer = spec.build()
    workspace = Workspace(BLOCK * np.dtype(dtype).itemsize)
    for size in SIZES:
        rng = np.random.default_rng(size)
        start = rng.standard_normal(size).astype(dtype)
        weights, expected = device.array(start), start.astype(np.float64)
        state = optimizer.init(weights)
        step = reference(spec, expected)
        for t in range(1, 6):
            gradient = rng.standard_normal(size).astype(dtype)
            lr = optimizer.lr / t
            apply(optimizer, weights, device.array(gradient), state, lr=lr, t=t, workspace=workspace)
            expected = step(expected, gradient.astype(np.float64), t, lr)
        tolerance = 2e-6 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(xp.to_host(weights), expected, rtol=tolerance, atol=tolerance)
        assert all(slot.shape == weights.shape and slot.dtype == weights.dtype for slot in state.values())


@pytest.mark.parametrize("case", PINNED["cases"], ids=lambda case: case["spec"])
def test_ten_steps_are_those_of_another_library(case: dict[str, list[list[float]]]) -> None:
    optimizer = OPTIMIZERS.parse(str(case["spec"])).build()
    for dtype, tolerance in ((np.float64, 1e-13), (np.float32, 1e-6)):
        weights = np.array(case["initial"], dtype)
        state = optimizer.init(weights)
        for t, (gradient, expected) in enumerate(zip(PINNED["gradients"], case["weights"], strict=True), 1):
            apply(optimizer, weights, np.array(gradient, dtype), state, lr=optimizer.lr, t=t)
            np.testing.assert_allclose(weights, expected, rtol=tolerance, atol=tolerance)


def test_every_optimizer_is_pinned() -> None:
    assert {case["spec"].partition(":")[0] for case in PINNED["cases"]} == set(OPTIMIZERS)


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_float32_steps_are_not_biased_after_many_updates(name: str) -> None:
    # Correcting for 0.999 while multiplying with what float32 makes of it would lengthen each step by 6e-6.
    optimizer = OPTIMIZERS.parse(name).build()
    weights = np.zeros(1000), np.zeros(1000, np.float32)
    states = [optimizer.init(w) for w in weights]
    rng = np.random.default_rng(0)
    for t in range(1, 5001):
        gradient = rng.standard_normal(1000, np.float32)
        for w, state in zip(weights, states, strict=True):
            w[:] = 0
            apply(optimizer, w, gradient.astype(w.dtype), state, lr=1.0, t=t)
    exact, single = (np.abs(w).sum(dtype=np.float64) for w in weights)
    assert math.isclose(single, exact, rel_tol=5e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_gradient_of_zero_moves_no_weight_without_decay(name: str) -> None:
    spec = OPTIMIZERS.parse("ftrl:l1=0.5,l2=0.25" if name == "ftrl" else name)
    keys = [(key, 0.0 if key == "weight_decay" else value) for key, value in spec.numbers]
    optimizer = OPTIMIZERS.spec(name, tuple(keys)).build()
    start = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    start[:10] = 0
    weights = start.copy()
    state = optimizer.init(weights)
    for t in range(1, 20):
        apply(optimizer, weights, np.zeros_like(weights), state, lr=optimizer.lr / t, t=t)
    np.testing.assert_allclose(weights, start, rtol=4e-7, atol=0)


def test_ftrl_makes_weights_without_signal_exactly_zero() -> None:
    optimizer = OPTIMIZERS.parse("ftrl:l1=2").build()
    weights = np.zeros(2, np.float32)
    state = optimizer.init(weights)
    for t in range(1, 51):
        gradient = np.array([0.1 * (-1) ** t, 1.0], np.float32)
        apply(optimizer, weights, gradient, state, lr=optimizer.lr, t=t)
    assert weights[0] == 0 and weights[1] < 0


def test_the_largest_beta_is_below_one_in_float32() -> None:
    optimizer = OPTIMIZERS.parse("adam:beta1=0.999999,beta2=0.999999").build()
    weights = np.zeros(1, np.float32)
    apply(optimizer, weights, np.ones(1, np.float32), optimizer.init(weights), lr=1.0, t=1)
    assert math.isclose(weights[0], -1.0, rel_tol=1e-6)
    with pytest.raises(ConfigError, match=r"beta2=0\.9999999 must be"):
        OPTIMIZERS.parse("adam:beta2=0.9999999")


def test_lion_takes_full_steps_for_gradients_near_the_smallest_and_largest_floats() -> None:
    optimizer = OPTIMIZERS.parse("lion:lr=0.3,beta1=0").build()
    gradient = np.array([1e-29, -1e-29, 1e38, -1e38, 0.0, -0.0, np.inf, np.nan], np.float32)
    weights = np.zeros_like(gradient)
    apply(optimizer, weights, gradient, optimizer.init(weights), lr=0.3, t=1)
    lr = np.float32(0.3)
    np.testing.assert_array_equal(weights, np.array([-lr, lr, -lr, lr, 0, 0, -lr, np.nan], np.float32))
