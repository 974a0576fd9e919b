"""Promises of ps.server.scheduler.status: plain values, and every column is filled by whom it belongs to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ps.cli.view import view
from ps.launch.progress import progress_of
from ps.protocol.messages import BarrierEnter, Heartbeat, Hello, Welcome
from ps.server.scheduler.state import SchedulerState
from ps.server.scheduler.status import snapshot


def job(workers: int) -> tuple[SchedulerState, list[int]]:
    """A job with one server and its workers; their member ids."""
    state = SchedulerState({"workers": workers}, 0.0)
    seats = []
    for number, (role, rank) in enumerate([("server", 0), *(("worker", rank) for rank in range(workers))]):
        sends = state.receive(Hello(1, number, role, rank, "h", 1, "", (), {}), 0.0)
        seats += [send.message.member for send in sends if isinstance(send.message, Welcome)]
    return state, seats[1:]


def shown(state: SchedulerState) -> dict[str, Any]:
    status: dict[str, Any] = snapshot(state, 2.0, address="tcp://h:1", uptime=2.0, rejected={"frames": 1})
    return status


def test_the_status_is_plain_json_whatever_was_reported() -> None:
    state, (a, b) = job(2)
    state.receive(Heartbeat(a, 1, {"clock": 7, "metrics": {"loss": float("nan")}}), 0.0)
    state.receive(Heartbeat(b, 1, {"clock": 5, "waiting_for": [0], "metrics": {"loss": float("inf")}}), 0.0)
    state.receive(BarrierEnter(3, a, 4), 0.0)
    status = shown(state)
    assert json.loads(json.dumps(status, allow_nan=False)) == status
    rows = [(w["clock"], w["lag"], w["metrics"]["loss"]) for w in status["workers"]]
    assert rows == [(7, 0, None), (5, 2, None)]
    assert status["barrier"] == [0] and status["phase"] == "running" and status["servers"][0]["rank"] == 0


COLUMNS = (
    *("id", "rank", "state", "why", "host", "pid", "addresses", "last_seen_s", "lag", "anything"),
    *("clock", "samples_per_s", "bytes_up", "wait_s", "waiting_for", "waiting_s", "waiting", "rejected", "metrics"),
)


@pytest.mark.parametrize("value", ["soon", 3, {"a": "b"}, [{}], None, {1: 2}], ids=repr)
@pytest.mark.parametrize("column", COLUMNS)
def test_no_report_overwrites_what_the_scheduler_knows_or_spoils_the_page(column: str, value: Any) -> None:
    state, (a,) = job(1)
    before = shown(state)["workers"][0]
    state.receive(Heartbeat(a, 1, {column: value}), 0.0)
    status = shown(state)
    [after] = status["workers"]
    for key in ("id", "rank", "state", "why", "host", "pid", "addresses", "last_seen_s"):
        assert after[key] == before[key]
    view(status)
    progress_of(status)
