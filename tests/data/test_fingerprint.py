"""Promises of a fingerprint: other data have another one, the same data the same, and it costs next to nothing."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import numpy as np
import pytest

from ps.data import source_of
from ps.data.fingerprint import fingerprint, other_data

X = np.arange(4000, dtype=np.float32).reshape(1000, 4)
Y = np.arange(1000) % 10


def of(data: Any) -> dict[str, Any]:
    return fingerprint(source_of(data, 10))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ((X[:999], Y[:999]), "they have 999 examples, and had 1000"),
        ((X.astype(np.float64), Y), r"an example is \(float64\[4\], int64\[\]\), and was \(float32\[4\], int64\[\]\)"),
        ((X, Y.astype(np.int32)), r"int32\[\]\), and was"),
        ((X.reshape(1000, 2, 2), Y), r"float32\[2, 2\], int64\[\]\), and was \(float32\[4\]"),
        ((X[::-1], Y), "they have other values"),
        ((X, (Y + 1) % 10), "they have other values"),
        ((X, Y, Y), "an example is"),
    ],
)
def test_other_data_are_told_by_what_differs(data: Any, what: str) -> None:
    (found,) = other_data(of(data), of((X, Y)))
    assert re.search(what, found), found


def test_the_same_data_are_the_same_however_they_lie_in_memory_and_after_a_file() -> None:
    known = json.loads(json.dumps(of((X, Y))))
    for same in ((X.copy(), Y.copy()), (np.asfortranarray(X), Y), (X.copy()[::1], list(Y))):
        assert not list(other_data(of(same), known))


def test_of_what_is_read_one_by_one_there_is_the_number_and_of_a_stream_nothing() -> None:
    examples = [{"x": X[i], "label": int(Y[i])} for i in range(30)]
    assert of(examples) == {"examples": 30}
    assert of(iter(examples)) == {}
    assert not list(other_data({}, of(examples))) and not list(other_data(of(examples), {}))


def test_large_arrays_and_objects_cost_no_more_than_some_rows() -> None:
    wide = np.zeros((200, 500_000), np.float32)  # 400 MB, of which next to nothing is touched
    of((wide,))
    took = []
    for _ in range(5):
        began = time.thread_time()
        of((wide,))
        took.append(time.thread_time() - began)
    assert min(took) < 0.005
    assert "sample" not in of((np.array([object()] * 20, object),))
