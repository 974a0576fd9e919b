"""Promise: trees of arrays come out as they went in, and whoever gets one may do with it what it likes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ps.errors import BadMessage, UsageError
from ps.pipeline.arrays import here
from ps.protocol.codec import decode, encode
from ps.protocol.messages import TransferPart
from ps.worker.pipeline.packed_tree import DEEPEST, TreePacker

PACKER = TreePacker(here())
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 60), 1 << 60),
    st.text(max_size=5),
    arrays.arrays(st.sampled_from(["float32", "int64", "bool", "uint8"]), arrays.array_shapes(min_dims=0, min_side=0)),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def over_the_wire(tree: Any) -> Any:
    what, memory = PACKER.pack(tree)
    part = decode(encode(TransferPart(1, 1, 0, "activation", 1, 0, 0, memory.size, what)))
    assert PACKER.size_of(part.tree) == memory.size
    return PACKER.unpack(part.tree, np.frombuffer(bytearray(memory.tobytes()), np.uint8))


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other and type(one) is type(other))


def depth(tree: Any) -> int:
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(TREES)
def test_a_tree_comes_out_as_it_went_in(tree: Any) -> None:
    if depth(tree) > DEEPEST:
        with pytest.raises(UsageError, match="levels"):
            PACKER.pack(tree)
        return
    assert same(over_the_wire(tree), tree)


def test_what_is_packed_may_be_changed_and_so_may_what_comes_out() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3).T
    what, memory = PACKER.pack({"x": x, "half": np.ones(3, ml_dtypes.bfloat16)})
    x[:] = 0
    found = PACKER.unpack(decode(encode(TransferPart(1, 1, 0, "labels", 1, 0, 0, 0, what))).tree, memory)
    assert np.array_equal(found["x"], [[0, 3], [1, 4], [2, 5]])
    assert found["half"].dtype == ml_dtypes.bfloat16
    found["x"] += 1


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (np.array(["a"]), r"cannot go from stage to stage: numbers can, not <U1"),
        ({1.5: None}, "a dict cannot go"),
        (object(), "a object cannot go"),
        ([[[[[1]]]]], "more than 4 levels"),
    ],
)
def test_what_cannot_travel_is_refused_by_name(tree: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        PACKER.pack(tree)


@pytest.mark.parametrize(
    "node",
    [
        None,
        (),
        ("a", "object", ()),
        ("a", "float32", (-1,)),
        ("a", "float32", (1 << 39,)),
        ("a", "float32", 3),
        ("d", (("k",),)),
        ("l", ("v",)),
        ("l", (("l", (("l", (("l", (("l", ()),)),)),)),)),
        ("v", ("a",)),
        ("x", 1),
    ],
)
def test_what_is_no_tree_is_refused_before_room_is_made_for_it(node: Any) -> None:
    with pytest.raises(BadMessage, match=r"no tree of arrays|a tree of \d+ bytes"):
        PACKER.size_of({"tree": node})
