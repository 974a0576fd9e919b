"""Numbers from scripts: whatever they are, they are refused in our own words."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from ps.errors import DataError, UsageError
from ps.worker import KV
from ps.worker.numbers import as_float, shown


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("not now")


@pytest.mark.parametrize("value", [10**400, -(10**5000), "three", None, Odd()], ids=range(5))
def test_what_no_float_can_be_is_looked_at_without_harm(value: object) -> None:
    assert math.isnan(as_float(value))
    assert len(shown(value)) <= 40


@pytest.mark.parametrize("value", [10**400, 10**5000, math.inf, math.nan, -1, "x"], ids=range(6))
def test_a_script_is_told_which_number_cannot_be(local: Callable[..., KV], value: object) -> None:
    kv = local()
    kv.init({"w": np.ones(3)})
    with pytest.raises(UsageError, match="the learning rate"):
        kv.set_lr(value)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="examples is the number of examples"):
        kv.step({"w": np.ones(3)}, examples=value)  # type: ignore[arg-type]
    assert kv.clock == 0


@pytest.mark.parametrize(("size", "epochs"), [("3", 1), (1.5, 1), (None, 1), (2, 1.5), (2, "2"), (0, 1), (2, 0)])
def test_batches_come_in_whole_numbers(local: Callable[..., KV], size: object, epochs: object) -> None:
    with pytest.raises(DataError, match=r"(batch_size|epochs) is (.*: expected|missing: how many)"):
        local().batches(np.ones((10, 2)), size, epochs=epochs)  # type: ignore[arg-type]
