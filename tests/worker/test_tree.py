"""Trees: a nested model is trained as the flat one of the same names, and comes back as it was given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from ps.errors import GradientError, UsageError
from ps.optim import OPTIMIZERS
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.model import natural, read
from ps.worker.tree import Tree, tree_of

Local = Callable[..., KV]
Start = Callable[..., LocalCluster]


@dataclasses.dataclass(frozen=True)
class Dense:
    weight: Any
    bias: Any = None


class Pair(NamedTuple):
    first: Any
    second: Any


def vector(value: float = 0.0) -> np.ndarray:
    return np.full(3, float(value))


def nested(value: float = 0.0) -> dict[str, Any]:
    return {
        "layers": [Dense(vector(value), vector(value)), Dense(vector(value))],
        "head": {"scale": vector(value), "pair": Pair(vector(value), (vector(value),))},
    }


NAMES = [
    "head.pair.first",
    "head.pair.second.0",
    "head.scale",
    "layers.0.bias",
    "layers.0.weight",
    "layers.1.weight",
]


def test_names_are_keys_fields_and_indices_joined_by_dots() -> None:
    tree = tree_of(nested())
    assert tree is not None
    assert sorted(tree.flat) == NAMES


def test_a_model_comes_back_as_it_was_given_and_changes_in_place(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    params = kv.init(nested())
    kv.step(nested(2.0))
    assert list(params) == ["layers", "head"], "in the order in which it was given"
    assert isinstance(params["layers"][0], Dense)
    assert isinstance(params["head"]["pair"], Pair)
    assert isinstance(params["head"]["pair"].second, tuple)
    assert params["layers"][1].bias is None
    for tensor in (params["layers"][0].bias, params["head"]["pair"].second[0], kv.params["layers"][1].weight):
        assert tensor.tolist() == [-2] * 3


def test_gradients_come_nested_or_by_name_or_in_part(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    params = kv.init(nested())
    kv.step({name: vector(1) for name in NAMES})
    kv.step({"layers": None, "head": {"scale": vector(1), "pair": None}}, partial=True)
    kv.step({"head": {"scale": vector(1)}}, partial=True)
    assert params["head"]["scale"].tolist() == [-3] * 3
    assert params["layers"][0].weight.tolist() == [-1] * 3
    with pytest.raises(GradientError, match=r"gradient of 'layers\.0\.bias' is None; every tensor needs one"):
        kv.step({**nested(1), "layers": [Dense(vector(1)), Dense(vector(1))]})
    with pytest.raises(GradientError, match=r"unknown tensor 'layers\.2\.weight'"):
        kv.step({"layers": [*nested()["layers"], Dense(vector(1))], "head": nested()["head"]})


def test_weights_are_pulled_into_a_tree(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    params = kv.init(nested(4.0))
    out = nested()
    kv.wait(kv.pull(out))
    assert out["layers"][1].weight.tolist() == [4] * 3
    kv.push_pull(nested(1), out)
    assert out["head"]["pair"].first.tolist() == [3] * 3
    kv.wait(kv.pull(params))


def test_kinds_groups_and_numbers_in_lists_are_as_in_a_flat_dict(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    params = kv.init(
        {"a": {"w": [1.0, 2.0], "mean": vector(), "w2": [[1.0], [2.0]]}},
        kinds={"*.mean": "buffer"},
        groups={"a.w2": {"lr": 10}},
    )
    kv.step({"a": {"w": np.ones(2), "w2": np.ones((2, 1))}})
    assert params["a"]["w"].tolist() == [0, 1]
    assert params["a"]["w2"].tolist() == [[-9], [-8]]
    params["a"]["mean"][:] = 5


def test_a_flat_dict_is_none(local: Local) -> None:
    assert tree_of({"w": [1.0, 2.0], "b": vector(), "n": [], "s": 1.0, "g": [np.float32(1)]}) is None
    assert tree_of(vector()) is None
    with pytest.raises(UsageError, match="a model is a dict"):
        local().init(vector())


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"a": {"b": vector()}, "a.b": vector()}, r"two tensors of the model are called 'a\.b'"),
        ({"a": {0: vector()}}, "the key 0 of 'a' is no name: keys of a model are texts"),
        ({0: {"a": vector()}}, "the key 0 is no name"),
        ({"a": {"": vector()}}, "the key '' of 'a' is no name"),
        ({"a": {"b": "text"}}, r"tensor 'a\.b' has dtype <U4"),
        ({"a": {"b": object()}}, r"tensor 'a\.b' is a object, which is no array"),
        ({"a": {}}, "a model has 1 to 20000 tensors, not 0"),
        ({"a": [{}, []]}, "the model has no elements"),
    ],
)
def test_what_is_no_model_is_refused_by_name(local: Local, params: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        local().init(params)


def test_a_tree_without_an_end_is_refused(local: Local) -> None:
    endless: dict[str, Any] = {"w": vector()}
    endless["self"] = endless
    with pytest.raises(UsageError, match="nested more than 64 levels deep, at 'self"):
        local().init(endless)


def test_with_overlap_a_model_is_flat(local: Local) -> None:
    with pytest.raises(UsageError, match="with overlap a model is one flat dict"):
        local(overlap=True).init(nested())


def test_workers_that_build_a_tree_in_another_order_train_the_same_model(loopback: Start) -> None:
    def train(kv: KV) -> list[list[float]]:
        tree = nested()
        if kv.rank:
            tree = {"head": dict(reversed(tree["head"].items())), "layers": tree["layers"]}
        params = kv.init(tree)
        grads = Tree(tree).build({name: vector(number) for number, name in enumerate(NAMES)})
        kv.step(grads)
        assert list(params) == list(tree)
        return [array.tolist() for _, array in sorted(Tree(params).flat.items())]

    first, second = loopback(workers=2, optimizer="sgd:lr=1").run(train, train)
    assert first == second == [[-number] * 3 for number in range(len(NAMES))]


def test_workers_that_build_a_flat_dict_in_another_order_train_the_same_model(loopback: Start) -> None:
    names = ["layers.10.w", "b", "layers.2.w", "layers.2.b"]

    def train(kv: KV) -> dict[str, list[float]]:
        mine = names[kv.rank :] + names[: kv.rank]
        params = kv.init({name: vector() for name in mine}, groups={"*.w": {"lr": 1}, "*b": {"lr": 1}})
        kv.step({name: vector(names.index(name)) for name in mine})
        assert list(params) == mine, "in the order in which it was given"
        return {name: params[name].tolist() for name in names}

    first, second = loopback(workers=2, optimizer="sgd:lr=1").run(train, train)
    assert first == second == {name: [-number] * 3 for number, name in enumerate(names)}


def test_names_are_laid_out_with_their_numbers_as_numbers() -> None:
    names = ["w10", "w9", "b", "w", "w09", "9", "10", "layers.2.w", "layers.10.w", "\u00b2", "w\u00b2"]
    expected = ["9", "10", "b", "layers.2.w", "layers.10.w", "w", "w09", "w9", "w10", "w\u00b2", "\u00b2"]
    assert sorted(names, key=natural) == expected
    flat = {name: vector() for name in names}
    assert [tensor.name for tensor in read(flat, None, None, OPTIMIZERS.parse("sgd")).layout.tensors] == expected
    assert [
        tensor.name for tensor in read(flat, None, None, OPTIMIZERS.parse("sgd"), as_given=True).layout.tensors
    ] == names
