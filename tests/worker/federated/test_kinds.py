"""Tensors that are not trained: the worker's own in every other mode, averaged and added up in a federated job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps.errors import LayoutMismatch, UsageError
from ps.testing import LocalCluster
from ps.worker import KV

Local = Callable[..., KV]
Start = Callable[..., LocalCluster]

KINDS = {"mean": "buffer", "seen": "counter"}
BIG = 2**60 + 1
"""A number that no float64 holds."""


def model() -> dict[str, np.ndarray]:
    return {"seen": np.array([BIG, 0]), "w": np.zeros(3), "mean": np.zeros(2, np.float32)}


def grads(value: float = 1.0) -> dict[str, np.ndarray]:
    return {"w": np.full(3, value)}


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_in_a_job_that_exchanges_gradients_each_worker_keeps_its_own(loopback: Start, mode: str) -> None:
    def script(kv: KV) -> tuple[list[int], list[float], float]:
        params = kv.init(model(), KINDS)
        assert list(params) == list(kv.params) == ["seen", "w", "mean"]
        for _ in range(2):
            params["seen"][0] += 1
            params["mean"] += kv.rank + 1
            kv.step(grads(-1.0))
        kv.barrier()
        assert params["seen"] is kv.params["seen"]
        return params["seen"].tolist(), params["mean"].tolist(), float(params["w"][0])

    found = loopback(workers=2, mode=mode, optimizer="sgd:lr=1").run(script, script)
    for rank, (seen, mean, w) in enumerate(found):
        assert seen == [BIG + 2, 0]
        assert mean == [2.0 * (rank + 1)] * 2
        assert w == (2 if mode == "sync" else 4)


def test_alone_too(local: Local) -> None:
    kv, given = local(optimizer="sgd:lr=1"), model()
    params = kv.init(given, KINDS)
    params["seen"] += 1
    kv.step(grads(-1.0))
    assert (params["seen"].tolist(), params["w"][0]) == ([BIG + 1, 1], 1)
    assert given["seen"].tolist() == [BIG, 0]  # the script's arrays are copied
    assert set(kv.grads) == {"w"}


@pytest.mark.parametrize("compress", ["none", "topk:0.5"])
def test_in_a_federated_job_buffers_are_averaged_and_counters_added_up_exactly(loopback: Start, compress: str) -> None:
    def script(kv: KV) -> dict[str, np.ndarray]:
        params = kv.init(model(), KINDS)
        for (x,) in kv.batches((np.arange(12.0),), 4):
            params["seen"] += (1, len(x))
            params["mean"] += np.float32(kv.rank)
            kv.step(grads())
        kv.barrier()
        return {name: array.copy() for name, array in params.items()}

    job = {"mode": "federated", "workers": 3, "rounds": 2, "min_clients": 3, "optimizer": "sgd:lr=1"}
    found = loopback(**job, servers=2, compress=compress).run(*[script] * 3)
    for params in found:  # 3 clients take one step of 4 examples in each of two rounds
        assert params["seen"].tolist() == [BIG + 6, 24]
        np.testing.assert_allclose(params["mean"], 2.0, rtol=1e-6)
    assert len({params["w"].tobytes() for params in found}) == 1


def test_a_pull_and_a_push_pull_fill_them_too_in_a_federated_job(loopback: Start) -> None:
    def script(kv: KV) -> None:
        params, out = kv.init(model(), KINDS), model()
        for _ in kv.batches(np.zeros(4), 4):
            params["seen"][1] += 5
            kv.push_pull(grads(), out)
            assert (out["seen"].tolist(), out["w"][0]) == ([BIG, 5], -1)
        kv.wait(kv.pull(out))
        assert out["seen"].tolist() == [BIG, 5]

    loopback(mode="federated", rounds=1, partition="own", optimizer="sgd:lr=1").run(script)


@pytest.mark.parametrize(
    ("kinds", "text"),
    [
        ({"men": "buffer"}, "names 'men', which is no tensor"),
        ({"mean": "statistics"}, "'mean' cannot be a 'statistics'; kinds are trainable, buffer, counter and frozen"),
        ({"w": "control"}, "'w' cannot be a 'control'"),
        ({"mean": "buffer", "seen": "buffer"}, "'seen' has dtype int64; float32 and float64 for a buffer"),
        ({"seen": "counter", "mean": "counter"}, "'mean' has dtype float32; int64 for a counter"),
        ({"mean": "buffer"}, "'seen' has dtype int64; float32, float64, float16 and bfloat16 can be trained"),
        ({**KINDS, "w": "buffer"}, "at least one tensor with elements that is trained"),
        ("buffer", "kinds is a dict"),
    ],
)
def test_kinds_that_cannot_be_are_refused_naming_the_tensor(local: Local, kinds: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        local().init(model(), kinds)


def test_a_model_whose_trained_tensors_are_all_empty_is_refused(local: Local) -> None:
    with pytest.raises(UsageError, match="at least one tensor with elements"):
        local().init({"w": np.zeros(0), "mean": np.zeros(3)}, {"mean": "buffer"})


def test_clients_that_disagree_about_a_kind_train_different_models(loopback: Start) -> None:
    def script(kv: KV) -> str:
        arrays = {"w": np.zeros(3), "mean": np.zeros(2)}
        try:
            kv.init(arrays, {"mean": "buffer"} if kv.rank else {})
        except LayoutMismatch as error:
            return str(error)
        return ""

    found = loopback(mode="federated", workers=2, start_timeout=3.0).run(script, script)
    assert sum(map(bool, found)) == 1
    assert "mean float64[2] (buffer)" in max(found)
