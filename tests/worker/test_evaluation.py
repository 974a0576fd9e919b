"""Evaluation: what kv.evaluate writes down, in every mode, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.errors import UsageError
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.evaluation import Evaluation
from ps.worker.step_log import StepLog

Local = Callable[..., KV]
Start = Callable[..., LocalCluster]


def total(params: Any, data: Any) -> float:
    return float(params["w"].sum()) + float(np.sum(data))


def lines(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / "evaluations.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_alone_it_measures_every_so_many_steps_and_at_the_end(local: Local, tmp_path: Path) -> None:
    kv = local(log=StepLog(str(tmp_path)), optimizer="sgd:lr=1", eval_every=2)
    kv.init({"w": np.zeros(2)})
    kv.evaluate(total, np.array([10.0]))
    for _ in range(5):
        kv.step({"w": np.full(2, -1.0)})
    kv.close()
    assert [(line["clock"], line["total"], line["rank"]) for line in lines(tmp_path)] == [
        (2, 14.0, 0),
        (4, 18.0, 0),
        (5, 20.0, 0),
    ]


def test_the_end_is_not_measured_twice(local: Local, tmp_path: Path) -> None:
    kv = local(log=StepLog(str(tmp_path)), eval_every=2)
    kv.init({"w": np.zeros(2)})
    kv.evaluate(total, np.zeros(1))
    for _ in range(4):
        kv.step({"w": np.ones(2)})
    kv.close()
    assert [line["clock"] for line in lines(tmp_path)] == [2, 4]


def test_without_eval_every_it_is_only_the_end_and_without_a_wish_nothing(local: Local, tmp_path: Path) -> None:
    for name in ("asked", "unasked"):
        kv = local(log=StepLog(str(tmp_path / name)))
        kv.init({"w": np.zeros(2)})
        if name == "asked":
            kv.evaluate(total, np.zeros(1))
        for _ in range(3):
            kv.step({"w": np.ones(2)})
        kv.close()
    assert [line["clock"] for line in lines(tmp_path / "asked")] == [3]
    assert lines(tmp_path / "unasked") == []


def test_a_script_that_failed_is_not_measured(local: Local, tmp_path: Path) -> None:
    kv = local(log=StepLog(str(tmp_path)))
    kv.init({"w": np.zeros(2)})
    kv.evaluate(total, np.zeros(1))
    kv.close("ValueError: no")
    assert lines(tmp_path) == []


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_in_a_cluster_the_first_worker_does_it(loopback: Start, tmp_path: Path, mode: str) -> None:
    job = loopback(workers=2, mode=mode, optimizer="sgd:lr=1", eval_every=2)

    def script(kv: KV) -> None:
        kv._log = kv._evaluation._log = StepLog(str(tmp_path))
        kv._log.rank = kv.rank
        kv.init({"w": np.zeros(2)})
        kv.evaluate(total, np.zeros(1))
        for _ in range(3):
            kv.step({"w": np.full(2, -1.0)})

    job.run(script, script)
    found = lines(tmp_path)
    assert [line["clock"] for line in found] == [2, 3]
    assert {line["rank"] for line in found} == {0}
    if mode == "sync":
        assert [line["total"] for line in found] == [4.0, 6.0]


def test_two_measures_of_one_name_are_both_there() -> None:
    made = Evaluation(lambda: {"w": np.zeros(1)}, StepLog(None))
    made.add(total, np.array([1.0]))
    made.add(total, np.array([2.0]))
    made.add(lambda params, data: {"total": data, "loss": 0.5}, 3)
    assert made.measure() == {"total": 1.0, "total_2": 2.0, "total_3": 3.0, "loss": 0.5}
    assert made.measure(lambda data: data * 2)["total_2"] == 4.0


def test_what_it_returns_may_be_any_number_of_one_element() -> None:
    made = Evaluation(dict, StepLog(None))
    made.add(lambda params, data: {"a": np.float32(0.5), "b": np.array(2), "c": True, "d": 3}, None)
    assert made.measure() == {"a": 0.5, "b": 2.0, "c": 1.0, "d": 3.0}


@pytest.mark.parametrize("result", [None, "high", [1.0, 2.0], {"accuracy": None}, {"accuracy": np.zeros(2)}])
def test_what_is_no_number_is_refused_naming_it(result: Any) -> None:
    made = Evaluation(dict, StepLog(None))

    def accuracy(params: Any, data: Any) -> Any:
        return result

    made.add(accuracy, None)
    with pytest.raises(UsageError, match="is a number; accuracy is"):
        made.measure()


def test_what_cannot_be_called_is_refused_at_once(local: Local) -> None:
    kv = local()
    with pytest.raises(UsageError, match="takes a function of parameters and data, not float"):
        kv.evaluate(0.5, None)  # type: ignore[arg-type]


def test_a_bad_measure_is_told_by_the_step_that_takes_it(local: Local) -> None:
    kv = local(eval_every=2)
    kv.init({"w": np.zeros(2)})
    kv.evaluate(lambda params, data: "high", None)
    kv.step({"w": np.ones(2)})
    with pytest.raises(UsageError, match="is 'high'"):
        kv.step({"w": np.ones(2)})
    with pytest.raises(UsageError, match="is 'high'"):  # nor does the end hide it
        kv.evaluate(total, None)
        kv._evaluation._last = -1
        kv.close()


def test_a_full_disk_costs_the_record_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = Evaluation(lambda: {"w": np.zeros(1)}, StepLog(str(tmp_path)))
    made.add(total, np.zeros(1))
    (tmp_path / "evaluations.jsonl").mkdir()
    made.run(1)
    assert "evaluations.jsonl is no longer written" in caplog.text


def test_it_sees_the_parameters_on_the_device(local: Local, strict_device: xp.Device) -> None:
    kv = local(strict_device, optimizer="sgd:lr=1", eval_every=1)
    params = kv.init({"w": np.zeros(2)})
    seen: list[Any] = []
    kv.evaluate(lambda given, data: seen.append(given["w"]) or 0.0, None)
    kv.step({"w": np.ones(2)})
    assert seen[0] is params["w"]
