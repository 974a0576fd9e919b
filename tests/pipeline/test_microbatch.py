"""Promise: a batch is cut where its examples are, and what cannot be cut so is refused by name."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from ps.errors import UsageError
from ps.pipeline import microbatch
from ps.pipeline.arrays import here

KIND = here()


class Pair(NamedTuple):
    a: Any
    b: Any


def test_all_examples_are_in_one_micro_batch_and_the_last_is_the_short_one() -> None:
    for examples in range(1, 30):
        for parts in range(1, examples + 1):
            found = microbatch.sizes(examples, parts)
            assert sum(found) == examples
            assert len(found) == parts
            assert max(found) - min(found) <= 1
            assert found == sorted(found, reverse=True)


@pytest.mark.parametrize(("parts", "text"), [(5, "4 examples cannot be cut into 5"), (0, "at least 1"), (2.0, "2.0")])
def test_what_cannot_be_cut_is_refused(parts: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        microbatch.sizes(4, parts)


def test_a_tree_is_cut_leaf_by_leaf_and_what_has_no_examples_is_passed_whole() -> None:
    table = np.arange(3.0)
    x = {"t": np.arange(12).reshape(2, 6), "p": Pair(np.arange(6), [np.float32(2), None, "text", table]), "n": 3}
    axis = {"t": 1, "p": (0, [0, 0, 0, None])}
    assert microbatch.count(x, axis, KIND) == 6
    parts = microbatch.cut(x, [4, 2], axis, KIND)
    assert parts[1]["t"].tolist() == [[4, 5], [10, 11]]
    assert isinstance(parts[1]["p"], Pair)
    assert parts[1]["p"].a.tolist() == [4, 5]
    assert parts[1]["p"].b[1:3] == [None, "text"]
    assert parts[1]["p"].b[3] is table
    assert parts[1]["n"] == 3
    assert np.shares_memory(parts[0]["t"], x["t"])


def test_arrays_that_disagree_are_named() -> None:
    x = {"tokens": np.zeros((64, 9)), "places": np.zeros(9)}
    with pytest.raises(UsageError, match=r"x\.places has 9 examples where x\.tokens has 64.*axis="):
        microbatch.count(x, 0, KIND)
    with pytest.raises(UsageError, match=r"y has 63 examples in a batch of 64"):
        microbatch.cut(np.zeros(63), [32, 32], 0, KIND, "y")
    with pytest.raises(UsageError, match="x has 1 axes, and axis 1 is declared"):
        microbatch.count(np.zeros(5), 1, KIND)
    with pytest.raises(UsageError, match="axis has a tuple in the place of x, which is one array"):
        microbatch.count(np.zeros(5), (0, 1), KIND)
    with pytest.raises(UsageError, match="no array with an axis of examples"):
        microbatch.count({"n": 3, "s": np.float32(1)}, 0, KIND)
