"""Every kind of array that people hand over is taken for its numbers, or refused in words that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.errors import GradientError, UsageError
from ps.worker import KV
from ps.worker.arrays import plain

Local = Callable[..., KV]


class Metres(np.ndarray[Any, Any]):
    """An array with a unit, as astropy's Quantity."""


class Half:
    """A tensor of another library that NumPy cannot read."""

    dtype = "torch.bfloat16"

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **kwargs: Any) -> Any:
        raise BufferError("unsupported dtype")


NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)


def mapped(folder: Path) -> np.ndarray:
    found = np.memmap(folder / "m", np.float32, "w+", shape=(2, 3))
    found[:] = NUMBERS
    return found


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: NUMBERS.view(np.matrix),
        mapped,
        lambda folder: np.ma.masked_array(NUMBERS, mask=False),
        lambda folder: NUMBERS.tolist(),
    ],
    ids=["matrix", "memmap", "masked, nothing masked", "list"],
)
def test_what_means_its_numbers_is_a_plain_array_of_them(make: Callable[[Path], Any], tmp_path: Path) -> None:
    found = plain(make(tmp_path))
    assert type(found) is np.ndarray and found.shape == (2, 3)
    np.testing.assert_array_equal(found, NUMBERS)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.ma.masked_array(NUMBERS, mask=NUMBERS > 2), "is a masked array: fill what is masked first"),
        (NUMBERS.view(Metres), "is a Metres, which means more than its numbers"),
        (None, "is None"),
        ({"weight": NUMBERS}, "is a dict itself: give one flat dict of arrays, with names such as 'layer0/weight'"),
        ([NUMBERS, None], "is a list, which is no array of numbers|cannot be read"),
        (object(), "is a object, which is no array of numbers"),
        (Half(), r"has dtype torch.bfloat16, which cannot be read here: convert it, .* x.astype\('float32'\)"),
    ],
    ids=["masked", "subclass", "None", "dict", "list", "object", "bfloat16"],
)
def test_what_means_more_or_nothing_is_refused_by_name(local: Local, value: Any, text: str) -> None:
    if not isinstance(value, dict | list):  # those are parts of a tree
        with pytest.raises(UsageError, match=f"tensor 'w' ({text})"):
            local().init({"w": value})
    kv = local()
    kv.init({"w": np.zeros((2, 3), np.float32)})
    with pytest.raises(GradientError, match=f"gradient of 'w' ({text})"):
        kv.step({"w": value})
    assert kv.clock == 0


@pytest.mark.parametrize("size", [None, 1024, 8000])
def test_a_matrix_of_gradients_trains_however_it_is_cut(local: Local, size: int | None) -> None:
    kv = local(optimizer="sgd:lr=1", chunk_size=size)
    params = kv.init({"w": np.ones((40, 50), np.float32)})
    kv.step({"w": np.full((40, 50), 0.5, np.float32).view(np.matrix)})
    assert (params["w"] == 0.5).all()


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (
            "float128",
            r"float16 and bfloat16 can be trained: give such a copy \(x.astype\('float32'\)\)",
        ),
        (
            "int64",
            "float16 and bfloat16 can be trained: convert it, or name it in kinds, as a counter",
        ),
    ],
)
def test_a_dtype_that_cannot_be_trained_is_refused_with_what_to_do(local: Local, dtype: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"tensor 'w' has dtype {dtype}; float32, float64, {text}"):
        local().init({"w": np.ones(3, dtype)})
