"""StepLog: valid JSON whatever a script measures, whole lines, and no harm to the training."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.config import ProcessConfig, job_from
from ps.errors import UsageError
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Heartbeat
from ps.testing import STRICT
from ps.worker import KV, step_log
from ps.worker.local import LocalStore
from ps.worker.step_log import StepLog
from ps.worker.traffic import Traffic


def lines(path: Path) -> list[dict[str, Any]]:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    text = (path / "metrics.jsonl").read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def note(log: StepLog, clock: int = 0, traffic: Traffic | None = None, /, **metrics: Any) -> None:
    log.step(clock, 32, metrics, traffic or Traffic(), staleness=clock)


def test_a_line_has_the_learning_rate_from_when_a_script_has_set_one(tmp_path: Path) -> None:
    with KV(LocalStore(job_from({"optimizer": "sgd:lr=1"})), xp.CPU, StepLog(str(tmp_path))) as kv:
        kv.init({"a": np.zeros(2), "b": np.zeros(2)}, groups={"b": {"lr": 0.5}})
        for rate in (None, 0.25, None):
            if rate is not None:
                kv.set_lr(rate)
            kv.set_lr(9.0, group="b")  # which is not the first
            kv.step({"a": np.ones(2), "b": np.ones(2)})
    assert [line.get("base_lr") for line in lines(tmp_path)] == [None, 0.25, 0.25]


class Odd:
    def __str__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.5, 0.5),
        (3, 3),
        (True, True),
        (None, None),
        ("text", "text"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.array(0.25), 0.25),
        (np.array([[0.25]]), 0.25),
        (np.array([1, 2]), "[1 2]"),
        (1 << 70, 1 << 70),
        ("x" * 1000, "x" * 200),
        ("\ud800", "?"),
        (Odd(), "<Odd: no>"),
    ],
)
def test_any_metric_becomes_valid_json(tmp_path: Path, value: Any, written: Any) -> None:
    log = StepLog(str(tmp_path))
    note(log, metric=value)
    log.flush()
    assert lines(tmp_path)[0]["metric"] == written
    heartbeat = encode(Heartbeat(1, 1, log.report(Traffic())))
    assert "metric" in decode(heartbeat).report["metrics"]


def test_a_scalar_on_a_device_is_a_number(tmp_path: Path, strict_device: xp.Device) -> None:
    log = StepLog(str(tmp_path))
    note(log, loss=STRICT.to_device(np.array(0.5, np.float32)), hits=STRICT.to_device(np.array(3.0)))
    log.flush()
    assert lines(tmp_path)[0]["loss"] == 0.5


def test_a_line_holds_what_was_counted_since_the_one_before(tmp_path: Path) -> None:
    log, traffic = StepLog(str(tmp_path)), Traffic(100, 50, 1.0)
    log.rank = 3
    log.begin(traffic)
    traffic.bytes_up, traffic.bytes_down, traffic.wait_s = 110, 70, 1.5
    note(log, 4, traffic, loss=1.0, clock="mine", rank="mine")
    traffic.bytes_up = 111
    note(log, 5, traffic)
    log.flush()
    first, second = lines(tmp_path)
    assert (first["rank"], first["clock"], first["samples"], first["staleness"]) == (3, 4, 32, 4)
    assert (first["bytes_up"], first["bytes_down"], first["wait_s"]) == (10, 20, 0.5)
    assert (second["bytes_up"], second["bytes_down"], second["wait_s"]) == (1, 0, 0)
    report = log.report(traffic)
    assert (report["steps"], report["samples"], report["max_staleness"], report["bytes_up"]) == (2, 64, 5, 111)


def test_the_report_stays_small_whatever_is_measured() -> None:
    log = StepLog(None)
    note(log, **{f"metric {i} {'x' * 1000}": "y" * 10_000 for i in range(1000)})
    assert len(encode(Heartbeat(1, 1, log.report(Traffic())))) < 20_000


def test_a_metric_stands_beside_our_own_figures_whatever_it_is_called() -> None:
    log = StepLog(None)
    note(log, steps="mine", state="mine", loss=0.5)
    report = log.report(Traffic())
    assert report["metrics"] == {"steps": "mine", "state": "mine", "loss": 0.5}
    assert report["steps"] == 1 and "state" not in report


def test_workers_share_the_file_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_log, "FLUSH", -1.0)
    logs = [StepLog(str(tmp_path)) for _ in range(4)]
    for rank, log in enumerate(logs):
        log.rank = rank
    for clock in range(50):
        for log in logs:
            note(log, clock)
    assert sorted((line["rank"], line["clock"]) for line in lines(tmp_path)) == [
        (r, c) for r in range(4) for c in range(50)
    ]


def test_a_write_that_takes_less_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
    log = StepLog(str(tmp_path))
    note(log, loss=0.5)
    log.flush()
    assert lines(tmp_path)[0]["loss"] == 0.5


def test_a_full_disk_costs_the_record_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    log = StepLog(str(tmp_path))
    monkeypatch.setattr(os, "write", full)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            note(log)
            log.flush()
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path / 'metrics.jsonl'} is no longer written: No space left on device"
    ]
    assert log.steps == 2


def test_a_disk_too_full_for_evaluations_is_told_of_once_and_they_stay_in_the_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = StepLog(str(tmp_path))
    (tmp_path / "evaluations.jsonl").symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING):
        for clock in range(3):
            log.evaluation(clock, {"accuracy": 0.5})
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path / 'evaluations.jsonl'} is no longer written: No space left on device"
    ]
    assert log.report(Traffic())["measured_clock"] == 2


def test_a_directory_that_cannot_be_written_is_an_error_before_the_job_is_joined(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write to the run directory"):
        StepLog(str(tmp_path / "file"))
    (tmp_path / "run" / "metrics.jsonl").mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot write to the run directory"):
        StepLog(str(tmp_path / "run"))


def test_without_a_directory_nothing_is_written() -> None:
    assert ProcessConfig().run_dir is None
    log = StepLog(None)
    note(log)
    log.flush()
    assert log.report(Traffic())["steps"] == 1


@pytest.mark.parametrize(
    "value", [10**400, -(10**5000), 1 << 63, "\ud800"], ids=["large", "endless", "64 bits", "text"]
)
def test_no_metric_whatever_it_is_ends_a_training(tmp_path: Path, value: object) -> None:
    log = StepLog(str(tmp_path))
    log.step(0, 1e308, {"m": value, "\ud800": 1}, Traffic(), staleness=0)
    log.step(1, 1e308, {"m": value}, Traffic(), staleness=0)
    log.evaluation(2, {"\ud800": 1.0})
    log.flush()
    assert [json.loads(line)["clock"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [0, 1]
    assert encode(Heartbeat(1, 1, log.report(Traffic())))


def test_a_report_may_be_read_while_the_model_is_evaluated() -> None:
    log = StepLog(None)
    log.evaluation(0, {"a": 1.0})
    reading = iter(log.report(Traffic())["measured"].items())  # as on the thread that reports
    log.evaluation(1, {"b": 1.0})
    assert list(reading) == [("a", 1.0)]


def test_what_was_measured_stays_in_the_report_while_training_goes_on() -> None:
    log = StepLog(None)
    log.evaluation(7, {"accuracy": 0.5})
    note(log, 8, loss=0.1)
    report = log.report(Traffic())
    assert (report["measured"], report["measured_clock"], report["metrics"]) == ({"accuracy": 0.5}, 7, {"loss": 0.1})


def test_the_speed_in_the_report_is_that_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(step_log.time, "monotonic", lambda: now[0])
    log = StepLog(None)
    log.begin(Traffic())
    for second in range(1, 101):  # slow at first
        now[0] = float(second)
        log.step(second, 10 if second <= 50 else 40, {}, Traffic(), staleness=0)
    assert log.report(Traffic())["samples_per_s"] == 40.0
    assert len(log._pace) < 50


def test_a_round_counts_the_steps_that_it_had(tmp_path: Path) -> None:
    log = StepLog(str(tmp_path))
    log.step(0, 96, {"verdict": "accepted"}, Traffic(), staleness=0, steps=12)
    log.step(1, 0, {"verdict": "declined"}, Traffic(), staleness=0, steps=0)
    log.flush()
    assert log.report(Traffic())["steps"] == 12
    assert [line["steps"] for line in lines(tmp_path)] == [12, 0]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluations.jsonl", "shares.jsonl"])
def test_a_pipe_in_the_place_of_a_record_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UsageError, match=r"cannot write to the run directory .*: it is a pipe, and no file"):
        StepLog(str(tmp_path))


def test_a_folder_that_cannot_be_named_is_refused_in_a_line() -> None:
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(UsageError, match="cannot write to the run directory "):
            StepLog(name)


def test_in_the_end_it_is_said_what_the_steps_came_to(caplog: pytest.LogCaptureFixture) -> None:
    log = StepLog(None)
    note(log)
    log.evaluation(1, {"accuracy": 0.75})
    with caplog.at_level(logging.INFO):
        log.end()
    [said] = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"done after \d+\.\d s: 1 steps, \d+ samples, accuracy 0\.75", said)
