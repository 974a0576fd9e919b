"""Promises of blank batches: as many as there are, of the same shapes, and one example is read, to be like it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps.data import BlankBatches, source_of
from ps.errors import DataError

X, Y = np.arange(69, dtype=np.float32).reshape(23, 3), np.arange(23)


def shapes(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {key: shapes(value) for key, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(map(shapes, batch))
    return len(batch) if isinstance(batch, list) else (batch.shape, batch.dtype)


class Examples:
    """A data set that counts what is read of it."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read.append(index)
        return {"x": X[index], "text": "a" * index, "y": index}


@pytest.mark.parametrize("data", [(X, Y), X, Examples()], ids=["tuple", "array", "examples"])
@pytest.mark.parametrize("start", [0, 5])
def test_they_are_like_the_others(data: Any, start: int) -> None:
    source, how = source_of(data, 4), {"epochs": 2, "rank": 1, "num_workers": 2, "seed": 3, "start": start}
    blank = BlankBatches(source)
    assert blank.steps(4, 2) == source.steps(4, 2)  # type: ignore[union-attr]
    expected = [shapes(batch) for batch in source.batches(4, **how)]  # type: ignore[union-attr]
    assert [shapes(batch) for batch in blank.batches(4, **how)] == expected


def test_one_example_is_read_and_no_more() -> None:
    data = Examples()
    source = source_of(data, 4)
    data.read.clear()
    assert len(list(BlankBatches(source).batches(4, epochs=3, seed=0))) == 18
    assert len(data.read) == 1


def test_a_stream_is_refused_with_what_to_give() -> None:
    with pytest.raises(DataError, match="a stream has no length"):
        BlankBatches(source_of(iter([1, 2]), 1))
