"""The weights as scripts see them: memory that the system lets nobody write to, wherever the store has them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.weights import twice

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory is Linux's")

MODEL = {"w": np.zeros(5000, np.float32), "b": np.zeros(3, np.float64)}
ONES = {name: np.ones_like(value) for name, value in MODEL.items()}
JOBS = [
    *({"transport": transport} for transport in ("shm", "ipc", "tcp")),
    {"transport": "shm", "params": "private"},
    {"transport": "shm", "mode": "async"},
    {"transport": "tcp", "mode": "ssp", "compress": "int8"},
    {"transport": "tcp", "overlap": True},
    {"transport": "shm", "clip_norm": 0.5},
]


def rights(array: np.ndarray) -> str:
    """Return what the system allows at an array's first and last byte, as ``/proc/self/maps`` says it."""
    found = ""
    for address in (array.ctypes.data, array.ctypes.data + array.nbytes - 1):
        for line in Path("/proc/self/maps").read_text().splitlines():
            lo, hi = (int(end, 16) for end in line.split()[0].split("-"))
            if lo <= address < hi:
                found += line.split()[1][:2]
    return found


def protected(params: Any) -> bool:
    return all(rights(params[name]) == "r-r-" for name in MODEL)


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_no_transport_and_no_mode_lets_a_script_write_to_the_weights(
    loopback: Callable[..., LocalCluster], job: dict[str, Any]
) -> None:
    with loopback(servers=2, chunk_size=1024, optimizer="sgd:lr=1", **job).connect() as kv:
        params = kv.init(MODEL)
        assert protected(params)
        kv.step(ONES)
        kv.wait(kv.push(ONES))
        assert protected(params), "after a push, with weights of its own"
        kv.wait(kv.pull())
        kv.barrier()
        assert protected(params)
        out = {name: np.empty_like(value) for name, value in MODEL.items()}
        kv.wait(kv.pull(out))
        assert all(np.array_equal(params[name], out[name]) for name in MODEL)
        assert params["w"][0] != 0
    assert protected(params), "after the end"


def test_nor_does_training_without_a_cluster(local: Callable[..., KV]) -> None:
    kv = local(optimizer="sgd:lr=1")
    params = kv.init(MODEL)
    kv.step(ONES)
    assert protected(params) and params["w"][4999] == params["b"][2] == -1


def test_a_federated_client_writes_to_its_buffers_and_counters_only(loopback: Callable[..., LocalCluster]) -> None:
    kinds = {"mean": "buffer", "seen": "counter"}
    job = loopback(mode="federated", rounds=1, clients_per_round=1, min_clients=1, optimizer="sgd:lr=1")
    with job.connect() as kv:
        params = kv.init({**MODEL, "mean": np.zeros(2, np.float32), "seen": np.zeros((), np.int64)}, kinds)
        assert protected(params)
        for _ in kv.batches(np.zeros((4, 1), np.float32), 4):
            params["mean"] += 2
            params["seen"] += 4
            kv.step(ONES)
            assert protected(params) and params["w"][0] == -1
        assert params["mean"][1] == 2 and params["seen"] == 4


def test_what_is_written_is_seen_and_nothing_stays_when_it_is_gone() -> None:
    def state() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), Path("/proc/self/maps").read_text().count("memfd:ps")

    before = state()
    own, shown = twice(10_000)
    assert not shown.any()
    own[9_999] = 7
    assert shown[9_999] == 7 and rights(shown) == "r-r-" and rights(own) == "rwrw"
    del own
    assert shown[9_999] == 7
    del shown
    assert state() == before


def test_without_such_memory_numpy_alone_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> int:
        raise OSError(errno.ENOSYS, "no memfd")

    monkeypatch.setattr(os, "memfd_create", none)
    own, shown = twice(100)
    own[0] = 1
    assert shown[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        shown[0] = 2
