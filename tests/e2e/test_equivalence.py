"""Promise 2: sync training with N workers equals one process with N times the batch, and two runs are bit-identical."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps import native
from support.cluster import TRAIN, Cluster, result

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

Start = Callable[..., Cluster]
STEPS = 12


def alone(*args: object, **wishes: str) -> dict[str, np.ndarray]:
    """Train in this very process, without a cluster."""
    spec = importlib.util.spec_from_file_location("e2e_train", TRAIN)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asked = [part for key, value in wishes.items() for part in ("--wish", f"{key}={value}")]
    final: dict[str, np.ndarray] = module.main([*map(str, args), *asked])
    return final


@pytest.fixture(autouse=True)
def no_cluster_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PS_"):
            monkeypatch.delenv(name)


def together(cluster: Cluster, workers: int, *args: object) -> tuple[list[dict[str, np.ndarray]], list[str]]:
    """Train on a cluster; return every worker's final parameters and digests."""
    processes = cluster.train(workers, "--save", cluster.path("final-{rank}.npz"), *args)
    for process in processes:
        assert process.wait() == 0, process.text
    finals = [dict(np.load(cluster.path(f"final-{rank}.npz"))) for rank in range(workers)]
    return finals, [result(process)["digest"] for process in processes]


def compare(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], tolerance: float) -> None:
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        scale = float(np.abs(value).max())
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize(
    ("optimizer", "workers", "servers", "dtype", "tolerance"),
    [
        ("sgd:lr=0.002", 4, 3, "float64", 1e-12),
        ("momentum:lr=0.002", 2, 1, "float64", 1e-12),
        ("adam:lr=0.01", 3, 2, "float64", 1e-9),
        ("adam:lr=0.01", 1, 3, "float64", 1e-12),
        ("momentum:lr=0.002", 4, 2, "float32", 2e-5),
    ],
)
def test_n_workers_equal_one_process_with_n_times_the_batch(
    start: Start, optimizer: str, workers: int, servers: int, dtype: str, tolerance: float
) -> None:
    given = ("--steps", STEPS, "--dtype", dtype)
    finals, digests = together(
        start(servers=servers, workers=workers, chunk_size=1024, optimizer=optimizer), workers, *given
    )
    assert len(set(digests)) == 1
    compare(finals[0], alone(*given, optimizer=optimizer), tolerance)


def test_two_runs_are_bit_identical_whatever_the_transport_the_chunks_and_the_servers(start: Start) -> None:
    digests: set[str] = set()
    for servers, transport, chunk_size in ((1, "tcp", 1024), (2, "ipc", 1500), (3, "ipc", 1 << 20)):
        cluster = start(
            servers=servers, workers=3, transport=transport, chunk_size=chunk_size, optimizer="adam:lr=0.01"
        )
        _, found = together(cluster, 3, "--steps", STEPS, "--dtype", "float32", "--size", 1237)
        digests |= set(found)
        cluster.close()
    assert len(digests) == 1


def test_two_runs_are_bit_identical_whatever_the_kernels_and_the_threads(start: Start) -> None:
    if native.expected(native.AUTO) == native.NUMPY:
        pytest.skip("nothing was compiled")
    digests: set[str] = set()
    for kernels, transport, threads in (("numpy", "shm", 1), ("native", "shm", 2), ("native", "tcp", 1)):
        cluster = start(servers=1, workers=2, transport=transport, optimizer="adam:lr=0.01", joining=0)
        cluster.env |= {"PS_KERNELS": kernels, "PS_THREADS": str(threads)}
        cluster.start("server", "--rank", "0")
        _, found = together(cluster, 2, "--steps", STEPS, "--dtype", "float32", "--size", 40_000)
        digests |= set(found)
        cluster.close()
    assert len(digests) == 1


def test_push_pull_and_wait_apart_give_what_step_gives(start: Start) -> None:
    given = ("--steps", STEPS, "--separate")
    finals, _ = together(start(workers=2, optimizer="sgd:lr=0.002"), 2, *given)
    compare(finals[1], alone("--steps", STEPS, optimizer="sgd:lr=0.002"), 1e-12)


def test_the_weighted_mean_of_unequal_batches_is_that_of_their_union(start: Start) -> None:
    given = ("--steps", STEPS, "--shares", "15,2,7")
    finals, _ = together(start(workers=3, aggregator="weighted", optimizer="momentum:lr=0.002"), 3, *given)
    compare(finals[0], alone("--steps", STEPS, optimizer="momentum:lr=0.002"), 1e-12)


def test_clipping_by_the_global_norm_over_servers_equals_one_process(start: Start) -> None:
    wishes = {"optimizer": "adam:lr=0.01", "clip_norm": "3.0"}
    free = alone("--steps", STEPS, optimizer="sgd:lr=0.002")
    clipped = alone("--steps", STEPS, optimizer="sgd:lr=0.002", clip_norm="3.0")
    assert not np.allclose(free["weight"], clipped["weight"]), "nothing was clipped, so nothing would be tested"
    finals, digests = together(start(servers=2, workers=3, chunk_size=1024, **wishes), 3, "--steps", STEPS)
    assert len(set(digests)) == 1
    compare(finals[0], alone("--steps", STEPS, **wishes), 1e-9)


@pytest.mark.parametrize(
    ("job", "args"),
    [
        ({"schedule": "cosine:steps=10,warmup=3"}, ()),
        ({}, ("--set-lr", "5:0.0005")),
    ],
    ids=["schedule", "set_lr"],
)
def test_learning_rates_change_at_the_clock_they_would_in_one_process(
    start: Start, job: dict[str, Any], args: tuple[str, ...]
) -> None:
    given = ("--steps", STEPS, *args)
    finals, _ = together(start(servers=2, workers=2, optimizer="sgd:lr=0.002", **job), 2, *given)
    wanted = alone(*given, optimizer="sgd:lr=0.002", **job)
    compare(finals[0], wanted, 1e-12)
    with pytest.raises(AssertionError):
        compare(finals[0], alone("--steps", STEPS, optimizer="sgd:lr=0.002"), 1e-6)
