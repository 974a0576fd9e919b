"""Promises of the numbers that ``fit`` returns: what no message and no weight can hold is named."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ps.config import job_from
from ps.errors import UsageError
from ps.worker.federated.fit import train

MODEL = {"w": np.ones(2, np.float32)}
JOB = job_from({"mode": "federated", "workers": 2})


def fit_with(*numbers: Any) -> Any:
    return train(lambda params, about: (params, *numbers), MODEL, JOB, 0, 0)


@pytest.mark.parametrize("examples", [-1, 1e21, 1e308, 10**400, 1e-40, math.nan, math.inf, "3", None])
def test_a_number_of_examples_is_one_that_a_weight_can_be_made_of(examples: Any) -> None:
    with pytest.raises(UsageError, match="the number of its examples, 0 or more, not "):
        fit_with(examples)


@pytest.mark.parametrize("steps", [0, -3, 1.1e9, 1e300, math.nan, math.inf])
def test_a_number_of_steps_is_one_that_can_be_told(steps: float) -> None:
    with pytest.raises(UsageError, match="the number of its local steps, at least 1, not "):
        fit_with(5, {"steps": steps})


def test_what_is_said_in_reason_is_taken() -> None:
    for examples in (1, 0.5, 1e20, np.float32(3)):
        assert fit_with(examples, {"steps": 1e9})[1:] == (examples, {"steps": 1e9})
    assert fit_with(0)[1] == 0
