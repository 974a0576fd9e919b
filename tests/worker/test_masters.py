"""Promises of masters in files: training goes on with the same bits, and it is never silent that it would not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.errors import ConnectTimeout, UnsavedModel, UsageError
from ps.testing import LocalCluster
from ps.weights_file import COPIES, MASTERS, open_weights, write_weights
from ps.worker import KV
from ps.worker.saving import Saving
from ps.worker.step_log import StepLog

Local = Callable[..., KV]
Start = Callable[..., LocalCluster]
OPTIMIZER = "ftrl:lr=1e-3"
"""Its state begins with the weights."""
SIZE = 3000


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with open_weights(path) as file:
        found = {}
        for name, entry in file.entries.items():
            dtype = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[entry.dtype]
            file.read(name, found.setdefault(name, np.empty(entry.shape, dtype)))
        return found, file.about


def first(dtype: str) -> dict[str, np.ndarray]:
    return {"w": np.linspace(1, 2, SIZE).astype(dtype), "b": np.ones(3, dtype), "x": np.ones(5, np.float32)}


def train(kv: KV, dtype: str, steps: range, path: Path | None = None) -> None:
    kv.init(first(dtype))
    for step in steps:
        random = np.random.default_rng(step)
        kv.step({name: random.standard_normal(array.shape).astype(array.dtype) for name, array in first(dtype).items()})
    if path is not None and kv.rank == 0:
        kv.save(path, masters=True)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("servers", [0, 2])
def test_training_goes_on_from_masters_in_a_file_with_the_same_bits(
    local: Local, loopback: Start, tmp_path: Path, dtype: str, servers: int
) -> None:
    def run(steps: range, path: Path, **job: Any) -> None:
        job = {"optimizer": "sgd:lr=1e-4", "chunk_size": 1024, **job}
        if servers == 0:
            train(local(**job), dtype, steps, path)
        else:
            loopback(servers=servers, workers=1, **job).run(lambda kv: train(kv, dtype, steps, path))

    run(range(20), tmp_path / "half.st")
    masters, about = read(tmp_path / "half.st")
    assert (about["weights"], about["clock"]) == (MASTERS, "20")
    assert {array.dtype.name for array in masters.values()} == {"float32"}
    run(range(20, 40), tmp_path / "on.st", init=str(tmp_path / "half.st"))
    run(range(40), tmp_path / "whole.st")
    on, whole = read(tmp_path / "on.st")[0], read(tmp_path / "whole.st")[0]
    for name, array in whole.items():
        assert array.tobytes() == on[name].tobytes(), name
    assert np.any(whole["w"] != whole["w"].astype(dtype).astype(np.float32)), "no copy would do"


def test_state_that_begins_with_the_weights_begins_with_the_masters(loopback: Start, tmp_path: Path) -> None:
    master = (1 + np.arange(SIZE) * 1e-6).astype(np.float32)
    write_weights(tmp_path / "m.st", {"w": master}, {})

    def stand_still(kv: KV) -> None:
        kv.init({"w": np.zeros(SIZE, "bfloat16")})
        kv.step({"w": np.zeros(SIZE, "bfloat16")})
        kv.save(tmp_path / "after.st", masters=True)

    loopback(servers=2, optimizer=OPTIMIZER, init=str(tmp_path / "m.st")).run(stand_still)
    np.testing.assert_allclose(read(tmp_path / "after.st")[0]["w"], master, rtol=3e-7)


def test_the_last_model_is_saved_with_masters_if_that_is_wanted(loopback: Start, tmp_path: Path) -> None:
    cluster = loopback(workers=1, optimizer="sgd:lr=1e-4")
    saving = Saving(str(tmp_path / "m-{clock}.st"), 2, masters=True)
    with KV(cluster.store(0), xp.CPU, StepLog(None), saving=saving) as kv:
        kv.init({"w": np.ones(4, np.float16), "frozen": np.ones(2, np.float16)}, {"frozen": "frozen"})
        for _ in range(5):
            kv.step({"w": np.ones(4, np.float16)})
    for clock in (2, 4, 5):
        found, about = read(tmp_path / f"m-{clock}.st")
        assert (found["w"].dtype.name, found["frozen"].dtype.name) == ("float32", "float16")
        np.testing.assert_allclose(found["w"], 1 - 1e-4 * clock, rtol=1e-6)
        assert (about["weights"], about["clock"]) == (MASTERS, str(clock))


def test_where_masters_cannot_be_had_the_copies_are_written_and_it_is_said(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kv = local()
    kv.init({"w": np.ones(4, np.float16)})

    def silent() -> Any:
        raise ConnectTimeout("nobody answers")

    monkeypatch.setattr(kv._store, "masters", silent)
    with pytest.raises(UnsavedModel, match=r"m\.st has the copies .* cannot be had: nobody answers"):
        kv.save(tmp_path / "m.st", masters=True)
    assert read(tmp_path / "m.st")[1]["weights"] == COPIES


def test_in_full_precision_there_is_nothing_to_say_of_masters(local: Local, tmp_path: Path) -> None:
    kv = local()
    kv.init({"w": np.ones(4, np.float32)})
    kv.save(tmp_path / "m.st", masters=True)
    assert "weights" not in read(tmp_path / "m.st")[1]


def test_a_file_with_some_masters_gives_the_others_those_of_their_copies(local: Local, tmp_path: Path) -> None:
    master = np.full(4, 1.0001, np.float32)
    write_weights(tmp_path / "m.st", {"a": master, "b": np.full(3, 1.5, np.float16)}, {})
    kv = local(init=str(tmp_path / "m.st"))
    params = kv.init({"a": np.zeros(4, np.float16), "b": np.zeros(3, np.float16)})
    assert (params["a"].tolist(), params["b"].tolist()) == ([1.0] * 4, [1.5] * 3)
    kv.save(tmp_path / "again.st", masters=True)
    found = read(tmp_path / "again.st")[0]
    assert found["a"].tobytes() == master.tobytes() and found["b"].tolist() == [1.5] * 3


@pytest.mark.parametrize("value", [np.nan, 1e30])
def test_masters_that_no_training_begins_with_are_refused_by_name(local: Local, tmp_path: Path, value: float) -> None:
    write_weights(tmp_path / "m.st", {"a": np.full(4, value, np.float32)}, {})
    with pytest.raises(UsageError, match=r"first value of 'a' of the file"):
        local(init=str(tmp_path / "m.st")).init({"a": np.zeros(4, np.float16)})


def test_masters_are_for_what_is_trained_alone(local: Local, tmp_path: Path) -> None:
    write_weights(tmp_path / "m.st", {"a": np.ones(4, np.float32), "f": np.ones(2, np.float32)}, {})
    with pytest.raises(UsageError, match=r"has 'f' as float32\[2\]; the model has float16\[2\]"):
        local(init=str(tmp_path / "m.st")).init(
            {"a": np.zeros(4, np.float32), "f": np.ones(2, np.float16)}, {"f": "frozen"}
        )
