"""Promises of the evaluator: clients are judged by test examples like their own, seen as they see them."""

from __future__ import annotations

import numpy as np
import pytest

from ps.models import softmax
from ps.partition import counterpart, partition
from ps.simulate.evaluator import Evaluator
from support.federation import CLASSES, FEATURES, examples


@pytest.mark.parametrize("spec", ["shards:1", "features:2.0", "iid"])
def test_all_clients_at_once_are_each_client_by_itself(spec: str) -> None:
    data = examples(1200)
    evaluator = Evaluator(softmax, data, partition(spec, data["y_train"], 10, seed=2))
    params = softmax.init([FEATURES, CLASSES], seed=3)
    together = list(evaluator.of_clients(params))
    assert together == [evaluator.of_client(params, client) for client in range(10)]
    assert len(set(together)) > 1


def test_a_client_with_one_label_is_judged_by_that_label() -> None:
    data = examples(1200)
    division = partition("shards:1", data["y_train"], 10, seed=2)
    always_first = {"layer0/weight": np.zeros((FEATURES, CLASSES), np.float32), "layer0/bias": np.eye(CLASSES)[0]}
    evaluator = Evaluator(softmax, data, division)
    for client, accuracy in enumerate(evaluator.of_clients(always_first)):
        chosen = counterpart(division, data["y_train"], data["y_test"], client)
        assert accuracy == pytest.approx((data["y_test"][chosen] == 0).mean())
    assert evaluator.accuracy(always_first) == pytest.approx((data["y_test"] == 0).mean())
