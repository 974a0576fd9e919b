"""Promises of half precision: float32 masters on the servers, copies of them everywhere else, half the bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps import xp
from ps.errors import GradientError, UsageError
from ps.protocol.layout import Layout
from ps.testing import LocalCluster
from ps.worker import KV

Start = Callable[..., LocalCluster]
Local = Callable[..., KV]

BFLOAT16, FLOAT16 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)
HALVES = pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16], ids=str)
SHAPES = {"a": (40, 30), "b": (700,), "c": ()}


def halves(dtype: np.dtype[Any], seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: np.asarray(random.standard_normal(shape), np.float32).astype(dtype) for name, shape in SHAPES.items()}


def trainer(dtype: np.dtype[Any], given: np.dtype[Any], steps: int = 8) -> Callable[[KV], dict[str, bytes]]:
    """Train on values that both dtypes have, ``given`` as another dtype; return the weights rounded to ``dtype``."""

    def train(kv: KV) -> dict[str, bytes]:
        first = {name: value.astype(given) for name, value in halves(dtype, 0).items()}
        params = kv.init(first, groups={"b": {"lr": 0.3}})
        assert all(value.dtype == given for value in params.values())
        for step in range(steps):
            grads = {name: value.astype(given) for name, value in halves(dtype, 100 * kv.rank + step + 1).items()}
            if step % 3 == 2:
                del grads["a"]
            kv.step(grads, partial=True)
        return {name: np.asarray(value).astype(dtype).tobytes() for name, value in params.items()}

    return train


JOBS = [
    {"optimizer": "sgd:lr=0.01"},
    {"optimizer": "adam:lr=0.01", "chunk_size": 1024},
    {"optimizer": "momentum:lr=0.01", "clip_norm": 3.0, "chunk_size": 1024},
    {"optimizer": "adamw:lr=0.01", "clip_value": 0.5},
    {"optimizer": "sgd:lr=0.01", "aggregator": "median"},
    {"optimizer": "sgd:lr=0.01", "aggregator": "geomedian", "chunk_size": 1024},
    {"optimizer": "lion:lr=0.01", "mode": "ssp", "workers": 1, "clip_norm": 3.0},
    {"optimizer": "sgd:lr=0.01", "mode": "async", "workers": 1},
]


@HALVES
@pytest.mark.parametrize("job", JOBS, ids=lambda job: " ".join(map(str, job.values())))
def test_the_weights_are_those_of_a_float32_job_rounded_at_every_clock(
    loopback: Start, job: dict[str, Any], dtype: np.dtype[Any]
) -> None:
    job = {"servers": 2, "workers": 2, **job}
    ours = loopback(**job).run(*[trainer(dtype, dtype)] * job["workers"])
    single = loopback(**job).run(*[trainer(dtype, np.dtype(np.float32))] * job["workers"])
    assert ours == single
    assert all(found == ours[0] for found in ours)


@HALVES
def test_one_process_alone_has_masters_too(loopback: Start, local: Local, dtype: np.dtype[Any]) -> None:
    job = {"optimizer": "adam:lr=0.01", "clip_norm": 3.0, "chunk_size": 1024}
    [there] = loopback(servers=2, **job).run(trainer(dtype, dtype))
    assert there == trainer(dtype, dtype)(local(**job)) == trainer(dtype, np.dtype(np.float32))(local(**job))


@HALVES
def test_steps_too_small_for_the_copy_add_up_in_the_master_also_for_a_worker_that_comes_late(
    loopback: Start, dtype: np.dtype[Any]
) -> None:
    one = {"w": np.ones(300, dtype)}

    def train(kv: KV, steps: int) -> float:
        params = kv.init(one)
        for _ in range(steps):
            kv.step(one)
        return float(params["w"][0])

    def rounded(value: float) -> float:
        return float(np.float32(value).astype(dtype))

    with (job := loopback(optimizer="sgd:lr=1e-4", mode="async")).connect() as kv:
        assert train(kv, 2) == rounded(0.9998)
        with job.connect() as late:
            assert train(late, 250) == rounded(1 - 252e-4)
        for _ in range(748):
            kv.step(one)
        assert float(kv.params["w"][0]) == rounded(0.9)


@HALVES
def test_gradients_and_weights_travel_in_two_bytes(loopback: Start, dtype: np.dtype[Any]) -> None:
    def train(kv: KV) -> tuple[int, int]:
        kv.init({"w": np.zeros(1000, dtype)})
        traffic = kv._store.traffic
        before = traffic.bytes_up, traffic.bytes_down
        kv.step({"w": np.ones(1000, dtype)})
        return traffic.bytes_up - before[0], traffic.bytes_down - before[1]

    assert loopback(servers=2).run(train) == [(2000, 2000)]


@HALVES
def test_what_is_no_number_is_found_and_named(local: Local, dtype: np.dtype[Any]) -> None:
    kv = local(optimizer="sgd:lr=1")
    params = kv.init({"w": np.zeros(100_000, dtype)})
    for bad in (np.nan, np.inf, -np.inf):
        gradient = np.zeros(100_000, dtype)
        gradient[99_999] = bad
        with pytest.raises(GradientError, match=r"gradient of 'w' is -?(nan|inf) at \(99999,\)"):
            kv.step({"w": gradient})
    if dtype == BFLOAT16:
        with pytest.raises(GradientError, match=r"beyond the limit of 1\.8e"):
            kv.step({"w": np.full(100_000, 3e38, dtype)})
    kv.step({"w": np.full(100_000, 60_000, dtype)})
    assert float(params["w"][0]) == -float(np.float32(60_000).astype(dtype))
    with pytest.raises(GradientError, match="has dtype float32, expected"):
        kv.step({"w": np.zeros(100_000, np.float32)})


def test_a_weight_that_float16_has_no_room_for_is_infinite_and_comes_back(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    params = kv.init({"w": np.full(10, 60_000, np.float16)})
    kv.step({"w": np.full(10, -10_000, np.float16)})
    assert float(params["w"][0]) == np.inf
    kv.step({"w": np.full(10, 20_000, np.float16)})
    assert params["w"][0] == np.float16(50_000), "the master was never infinite"


@HALVES
@pytest.mark.parametrize(
    ("job", "text"),
    [
        ({"mode": "federated"}, "cannot be trained by clients, who have no master of it"),
        ({"compress": "int8"}, "travels in two bytes already, and no codec takes it"),
    ],
    ids=str,
)
def test_where_there_can_be_no_half_precision_it_is_refused_by_name(
    loopback: Start, job: dict[str, Any], text: str, dtype: np.dtype[Any]
) -> None:
    def train(kv: KV) -> None:
        with pytest.raises(UsageError, match=rf"w {dtype}\[3\] .*{text}.*give 'w' as float32"):
            kv.init({"v": np.zeros(3, np.float32), "w": np.zeros(3, dtype)})

    loopback(workers=1, **job).run(train)


def test_a_device_has_float16_and_no_bfloat16(local: Local, strict_device: xp.Device) -> None:
    kv = local(device=strict_device, optimizer="sgd:lr=1")
    with pytest.raises(UsageError, match="CuPy has no bfloat16"):
        kv.init({"w": np.zeros(3, BFLOAT16)})
    params = kv.init({"w": np.zeros(3, np.float16)})
    kv.step({"w": np.ones(3, np.float16)})
    assert xp.to_host(params["w"]).tobytes() == np.full(3, -1, np.float16).tobytes()


def test_sections_of_half_precision_come_last_and_have_two_bytes_an_element() -> None:
    layout = Layout.of(
        {"h": np.zeros(33, BFLOAT16), "f": np.zeros(33, np.float16), "d": np.zeros(1), "s": np.zeros(1, np.float32)}
    )
    assert list(layout.sections()) == ["float32", "float64", "float16", "bfloat16"]
    assert [chunk.nbytes for chunk in layout.chunks(1, 1024)] == [4, 8, 66, 66]
    assert layout.nbytes == 64 + 64 + 128 + 128
