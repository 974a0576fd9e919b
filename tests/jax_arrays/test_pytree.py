"""Promises of ps.jax: a pytree of any depth trains as its tensors do, and what a script holds keeps its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp

import ps.jax
from ps.errors import GradientError, StateError, UsageError
from ps.jax.pytree import _own
from ps.testing import LocalCluster
from ps.worker import KV

Local = Callable[..., KV]
Start = Callable[..., LocalCluster]


class Layer(NamedTuple):
    w: Any
    b: Any = None


def tree(value: float = 0.0) -> dict[str, Any]:
    return {
        "layers": [Layer(jnp.full((4, 3), value), jnp.full(3, value)), (jnp.full(2, value),)],
        "scale": jnp.float32(value),
    }


def loss_of(params: Any, x: Any, y: Any) -> Any:
    layer = params["layers"][0]
    return jnp.mean((x @ layer.w + layer.b - y) ** 2) * params["scale"] + jnp.sum(params["layers"][1][0] ** 2)


X = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((8, 3)).astype(np.float32)


def test_a_pytree_trains_around_a_jitted_function_as_in_jax_alone(local: Local) -> None:
    grad = jax.jit(jax.value_and_grad(loss_of))
    kv = local(optimizer="sgd:lr=0.1")
    params, alone = ps.jax.init(kv, tree(0.5)), tree(0.5)
    for _ in range(5):
        loss, grads = grad(params, X, Y)
        params = ps.jax.step(kv, grads, loss=loss, examples=8)
        alone = jax.tree.map(lambda p, g: p - 0.1 * g, alone, grad(alone, X, Y)[1])
    assert jax.tree.structure(params) == jax.tree.structure(alone)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, alone)
    assert sorted(kv.params) == ["layers.0.b", "layers.0.w", "layers.1.0", "scale"]


@pytest.mark.parametrize("overlap", [False, True])
def test_parameters_of_earlier_steps_keep_their_values(local: Local, loopback: Start, overlap: bool) -> None:
    big = {"w": jnp.zeros(1 << 16)}

    def train(kv: KV) -> None:
        held = [ps.jax.init(kv, big)]
        for _ in range(4):
            held.append(ps.jax.step(kv, {"w": jnp.ones(1 << 16)}))
        for number, params in enumerate(held):
            assert isinstance(params["w"], jax.Array)
            assert set(np.asarray(params["w"]).tolist()) == {-number}
        assert np.asarray(ps.jax.params(kv)["w"])[0] == -4

    train(local(optimizer="sgd:lr=1"))
    loopback(workers=1, optimizer="sgd:lr=1", overlap=overlap).run(train)


def test_what_a_script_gets_is_copied_before_the_next_step_can_change_it() -> None:
    weights = np.zeros(1 << 24, np.float32)  # JAX's own copy of so many is made in the background
    found = _own(weights)
    weights[:] = 1
    assert not np.asarray(found).any()


def test_workers_train_one_model(loopback: Start) -> None:
    def train(kv: KV) -> Any:
        params = ps.jax.init(kv, tree(float(kv.rank)))
        for _ in range(3):
            params = ps.jax.step(kv, jax.tree.map(jnp.ones_like, params))
        return params

    first, second = loopback(workers=2, optimizer="sgd:lr=1").run(train, train)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert float(first["scale"]) in (-3, -2), "the values of whichever came first, 0 or 1, and three steps"


def test_a_round_of_a_federated_job_begins_with_what_the_servers_have(loopback: Start) -> None:
    def train(kv: KV) -> Any:
        ps.jax.init(kv, {"w": jnp.zeros(3)})
        for _ in kv.batches((np.arange(8),), 4):
            params = ps.jax.params(kv)
            np.testing.assert_array_equal(params["w"], kv.params["w"])
            ps.jax.step(kv, {"w": jnp.full(3, 1.0 + kv.rank)})
        return ps.jax.params(kv)["w"]

    job = {"workers": 2, "mode": "federated", "rounds": 2, "optimizer": "sgd:lr=1", "clip_norm": 100.0}
    for w in loopback(**job).run(train, train):
        np.testing.assert_array_equal(w, np.full(3, -3.0))


def test_gradients_may_be_left_out_and_those_of_other_kinds_are(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    first = {"a": jnp.zeros(2), "b": jnp.zeros(2), "mean": jnp.zeros(2), "fixed": jnp.arange(3)}
    ps.jax.init(kv, first, kinds={"mean": "buffer", "fixed": "frozen"})
    kv.params["mean"][:] = 7
    found = ps.jax.step(kv, {"a": jnp.ones(2), "b": None, "mean": jnp.ones(2)}, partial=True)
    assert {name: array.tolist() for name, array in found.items()} == {
        "a": [-1, -1],
        "b": [0, 0],
        "mean": [7, 7],
        "fixed": [0, 1, 2],
    }
    with pytest.raises(GradientError, match="no gradient for tensor 'b'"):
        ps.jax.step(kv, {"a": jnp.ones(2)})
    with pytest.raises(GradientError, match="unknown tensor 'c'"):
        ps.jax.step(kv, {"a": jnp.ones(2), "b": jnp.ones(2), "c": jnp.ones(2)})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"a": [np.zeros(3)]}, r"tensor 'a\.0' is float64, of which JAX would make float32"),
        ({"a": {0: jnp.zeros(2), "0": jnp.zeros(2)}}, "'a.0'|Comparator|orderable|compar"),
        ({"a": {"b": jnp.zeros(2)}, "a.b": jnp.zeros(2)}, r"two tensors of the model are called 'a\.b'"),
        ({"a": jnp.arange(3)}, "tensor 'a' has dtype int32"),
        ({"key": jax.random.key(0)}, "tensor 'key' is no array of numbers"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(local: Local, given: Any, text: str) -> None:
    with pytest.raises((UsageError, ValueError), match=text):
        ps.jax.init(local(), given)


def test_with_x64_there_are_parameters_of_64_bits(local: Local) -> None:
    with jax.enable_x64(True):
        kv = local(optimizer="sgd:lr=1")
        params = ps.jax.init(kv, {"a": np.zeros(2)})
        assert ps.jax.step(kv, {"a": jnp.ones(2)})["a"].dtype == params["a"].dtype == np.float64


def test_half_precision_stays_what_it_is(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    params = ps.jax.init(kv, {"a": jnp.zeros(4, jnp.bfloat16)})
    params = ps.jax.step(kv, {"a": jnp.ones(4, jnp.bfloat16)})
    assert params["a"].dtype == jnp.bfloat16
    assert params["a"].tolist() == [-1] * 4


def test_a_step_inside_of_a_jitted_function_and_one_before_init_are_refused(local: Local) -> None:
    kv = local()
    with pytest.raises(StateError, match=r"call ps\.jax\.init\(kv, params\) first"):
        ps.jax.step(kv, {})
    ps.jax.init(kv, {"a": jnp.zeros(2)})
    with pytest.raises(GradientError, match=r"gradient of 'a' is traced: call ps\.jax outside"):
        jax.jit(lambda g: ps.jax.step(kv, g))({"a": jnp.ones(2)})
    assert kv.clock == 0


def test_a_model_of_one_array_has_a_name(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    assert ps.jax.init(kv, jnp.zeros(2)).tolist() == [0, 0]
    assert ps.jax.step(kv, jnp.ones(2)).tolist() == [-1, -1]
    assert list(kv.params) == ["params"]
