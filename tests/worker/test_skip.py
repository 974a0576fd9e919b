"""Promises of ``kv.skip``: in sync mode nobody takes the step and all know it, elsewhere this worker alone does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.errors import StateError
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.step_log import StepLog
from support.loopback import model

Start = Callable[..., LocalCluster]
Local = Callable[..., KV]
STEPS, BAD = 5, 2


def train(kv: KV, *, straight: bool) -> tuple[list[bool], dict[str, np.ndarray], int]:
    """Take steps with another gradient on each worker; worker 1 skips the BAD one, or, ``straight``, there is none."""
    params = kv.init(model((5000,), (3, 4)))
    random, skipped = np.random.default_rng(kv.rank), []
    for step in range(STEPS):
        grads = {name: random.standard_normal(array.shape, np.float32) for name, array in params.items()}
        if step == BAD and straight:
            continue
        if step == BAD and kv.rank == 1:
            kv.skip(loss=1.0)
        else:
            kv.step(grads, loss=1.0)
        skipped.append(kv.skipped)
    down = kv._store.traffic.bytes_down  # type: ignore[attr-defined]
    return skipped, {name: array.copy() for name, array in params.items()}, down


@pytest.mark.parametrize(
    "job",
    [
        {"transport": "shm"},
        {"transport": "shm", "params": "private"},
        {"transport": "ipc"},
        {"transport": "tcp", "clip_norm": 0.5},
        {"overlap": True},
        {"compress": "fp16"},
        {"compress": "topk:0.1"},
        {"compress": "onebit"},
    ],
    ids=str,
)
def test_a_step_that_one_worker_skips_is_none_for_all_and_changes_no_later_one(
    loopback: Start, job: dict[str, Any]
) -> None:
    """As if there had been none: also the codecs' error feedback is what it was, and no weights are sent again."""

    def trained(*, straight: bool) -> list[Any]:
        cluster = loopback(servers=2, workers=2, chunk_size=4096, optimizer="adam:lr=0.1", **job)
        return cluster.run(*[partial(train, straight=straight)] * 2)

    (ours, first, down), (theirs, second, more) = trained(straight=False)
    assert ours == theirs == [step == BAD for step in range(STEPS)]
    (_, expected, sent), (_, _, beside) = trained(straight=True)
    near = 1e-5 if "compress" in job else 0
    for name, array in first.items():
        assert np.array_equal(array, second[name])
        np.testing.assert_allclose(array, expected[name], rtol=near, atol=near)
    assert down + more == sent + beside


@pytest.mark.parametrize("job", [{"mode": "async"}, {"mode": "ssp"}, {"backup_workers": 1}], ids=str)
def test_elsewhere_the_others_take_the_step(loopback: Start, job: dict[str, Any]) -> None:
    def script(kv: KV) -> tuple[bool, float]:
        params = kv.init({"w": np.zeros(3, np.float32)})
        if kv.rank == 1:
            kv.skip()
        else:
            kv.step({"w": np.ones(3, np.float32)})
        found = kv.skipped
        kv.barrier()
        return found, float(params["w"][0])

    first, second = loopback(workers=2, optimizer="sgd:lr=1", **job).run(script, script)
    assert not first[0] and second[0] and first[1] == second[1]
    assert first[1] == -1 or "backup_workers" in job  # whose clock is closed by whoever comes first


def test_alone_the_clock_goes_on_and_the_record_says_so(local: Local, tmp_path: Path) -> None:
    kv = local(log=StepLog(str(tmp_path)), optimizer="sgd:lr=1")
    params = kv.init({"w": np.zeros(3, np.float32)})
    kv.step({"w": np.ones(3, np.float32)})
    assert not kv.skipped
    kv.skip(loss=2.0)
    assert kv.skipped and kv.clock == 2 and params["w"][0] == -1
    kv.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("skipped", 0) for line in lines] == [0, 1] and lines[1]["loss"] == 2.0


def test_after_an_announcement_it_is_too_late(local: Local) -> None:
    kv = local()
    kv.init({"w": np.zeros(3, np.float32), "v": np.zeros(2, np.float32)})
    kv.ready("w", np.ones(3, np.float32))
    with pytest.raises(StateError, match=r"announced with kv\.ready"):
        kv.skip()
    kv.step({"v": np.ones(2, np.float32)})
    assert not kv.skipped
