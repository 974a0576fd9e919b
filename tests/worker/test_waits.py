"""Promises of what a worker reports of its waits: for whom, for which clock and chunk, since when; nothing short."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from ps.worker.batch import Batch
from ps.worker.waits import SHOWN, shown


def exchange(since: float | None, batch: Batch | None = None) -> Any:
    return SimpleNamespace(since=since, batch=batch, waiting_for=(3,), awaited="worker 3")


def test_a_wait_for_servers_names_clock_and_chunks_and_whom_those_wait_for() -> None:
    batch = Batch("clock 417", missing={5, 9, 7})
    found = shown(exchange(time.monotonic() - 12, batch), None, None, None)
    assert found["waiting_for"] == [3] and 12 <= found["waiting_s"] < 14
    assert found["waits"][0]["what"] == "clock 417, chunk 5 and 2 more" and found["waits"][0]["for"] == "worker 3"
    batch.missing.clear()
    assert shown(exchange(time.monotonic() - 12, batch), None, None, None)["waits"][0]["what"] == "clock 417"


def test_each_kind_of_wait_is_told_once_it_is_long() -> None:
    long, short = time.monotonic() - 2 * SHOWN, time.monotonic()
    found = shown(exchange(None), (2, long, "activations 4 of step 7"), ("a barrier", long), long)
    assert [wait["for"] for wait in found["waits"]] == ["worker 2", "the scheduler", "the scheduler"]
    assert found["waiting_for"] == [2]
    assert shown(exchange(short), (2, short, "activations"), ("a barrier", short), short)["waits"] == []


def test_who_waits_for_nothing_says_so() -> None:
    assert shown(None, None, None, None) == {"waiting_for": [], "waiting_s": 0.0, "waits": []}
