"""A script that trains a module it never gives the new weights is told so; whoever does it right hears nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps.worker import KV
from ps.worker.frozen_module import STEPS

Local = Callable[..., KV]


class Foreign:
    """A tensor of another library, which shares its memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.array.__dlpack__(**kwargs)


def train(kv: KV, given: Any, own: np.ndarray, *, copies: bool, lr: float = 1.0) -> None:
    params = kv.init({"w": given})
    kv.set_lr(lr)
    for _ in range(STEPS + 5):
        kv.step({"w": np.ones(3, np.float32)})
        if copies:
            own[:] = params["w"]


def test_a_module_that_never_gets_the_new_weights_is_named_once(local: Local, caplog: pytest.LogCaptureFixture) -> None:
    own = np.zeros(3, np.float32)
    with caplog.at_level(logging.WARNING):
        train(local(), Foreign(own), own, copies=False)
    (record,) = caplog.records
    assert "the tensor 'w' that was given to kv.init is as it was" in record.getMessage()


@pytest.mark.parametrize(
    ("foreign", "copies", "lr"), [(True, True, 1.0), (False, False, 1.0), (True, False, 0.0)], ids=str
)
def test_whoever_copies_them_gave_plain_arrays_or_does_not_train_hears_nothing(
    local: Local, caplog: pytest.LogCaptureFixture, foreign: bool, copies: bool, lr: float
) -> None:
    own = np.zeros(3, np.float32)
    with caplog.at_level(logging.WARNING):
        train(local(), Foreign(own) if foreign else own, own, copies=copies, lr=lr)
    assert not caplog.records


@pytest.mark.parametrize("rebinds", ["all", "one"])
def test_a_module_whose_storage_is_bound_to_the_weights_trains_and_hears_nothing(
    local: Local, caplog: pytest.LogCaptureFixture, rebinds: str
) -> None:
    """As ``p.data = torch.from_numpy(params[name])``, which holds the array; a variable left over holds but one."""
    own = {name: np.zeros(size, np.float32) for name, size in (("w", 3), ("b", 2))}
    with caplog.at_level(logging.WARNING):
        kv = local()
        params = kv.init({name: Foreign(array) for name, array in own.items()})
        bound = [params[name] for name in (own if rebinds == "all" else ["b"])]
        for _ in range(STEPS + 5):
            kv.step({name: np.ones_like(array) for name, array in own.items()})
    assert len(caplog.records) == (rebinds == "one") and bound[0].any()
