"""Promises of ps.server.scheduler.status: plain values, and every column is filled by whom it belongs to."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from ps.cli.view import view
from ps.launch.progress import progress_of
from ps.protocol.codec import decode, encode
from ps.protocol.messages import BarrierEnter, Error, Heartbeat, Hello, Leave, Status, Welcome
from ps.server.scheduler import joining
from ps.server.scheduler.state import SchedulerState
from ps.server.scheduler.status import MOST_ROWS, snapshot


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


def test_a_status_fits_into_a_message_whatever_members_report_and_however_many_there_are() -> None:
    state = SchedulerState({"workers": 3, "mode": "federated"}, 0.0)
    odd = {f"{n}" + "\U0001f4a9" * 99: "\U0001f4a9" * 300 for n in range(12)}
    report = {"clock": 7, "metrics": odd, "waiting_for": [1] * 1000, "failure": "x" * 3000, "waiting": odd}
    for number in range(3000):
        hello = Hello(1, number, "worker", -1, "h" * 255, 1, "", ("tcp://h:1",) * 8, {})
        seat = next(s.message.member for s in state.receive(hello, 0.0) if isinstance(s.message, Welcome))
        state.receive(decode(encode(Heartbeat(seat, 1, report))), 0.0)
    status = decode(encode(Status(1, shown(state)))).status
    assert len(status["workers"]) == MOST_ROWS
    assert status["totals"]["workers"] == {"live": 3000, "shown": MOST_ROWS}
    assert {row["clock"] for row in status["workers"]} == {7}
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(view(status))
    assert "workers: 3,000 live; 1,000 of them are shown" in console.export_text()


def test_the_live_are_shown_before_those_that_are_gone() -> None:
    state, (a, b, c) = job(3)
    state.receive(Leave(1, a, {}), 0.0)
    many = [state.receive(Hello(1, 100 + n, "worker", -1, "h", 1, "", (), {}), 0.0) for n in range(MOST_ROWS)]
    rows = shown(state)["workers"]
    assert len(many) == len(rows) == MOST_ROWS
    assert {row["state"] for row in rows} == {"live"}
    assert {state.members[m].number for m in (b, c)} <= {row["id"] for row in rows}


def test_nothing_that_a_member_says_can_move_the_cursor_of_whoever_looks() -> None:
    state = SchedulerState({"workers": 1}, 0.0)
    state.receive(Hello(1, 1, "worker", 0, "h\x1b[2J\nroot", 1, "", (), {}), 0.0)
    [seat] = state.members
    state.receive(Heartbeat(seat, 1, {"failure": "\x1b]0;title\x07", "metrics": {"\x1b[31m": "\r"}}), 0.0)
    [row] = shown(state)["workers"]
    assert all(sign.isprintable() for sign in str({**row, "addresses": 0}))


@pytest.mark.parametrize("mode", ["sync", "federated"])
def test_so_many_join_in_a_time_that_is_linear_and_not_more_than_there_can_be(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "MOST_WORKERS", 300)
    monkeypatch.setattr(joining, "MOST_AT_ONCE", 300)
    state = SchedulerState({"workers": 1000, "mode": mode}, 0.0)
    sends = [s for n in range(400) for s in state.hear(Hello(1, n, "worker", -1, "h", 1, "", (), {}), 0.0)]
    assert state.count("worker") == 300
    assert sum(isinstance(send.message, Error) for send in sends) == 100
    assert len(sends) <= 800
    assert len({id(send.message) for send in state.news()}) <= 1
    assert state.news() == []


@pytest.mark.parametrize("dp", [None, "eps=8,delta=1e-5,clip=1"])
def test_with_differential_privacy_no_number_of_a_clients_data_or_training_is_shown(dp: str | None) -> None:
    state = SchedulerState({"workers": 1, "mode": "federated", "dp": dp}, 0.0)
    for number, role in enumerate(("server", "worker")):
        for send in state.receive(Hello(1, number, role, 0, "h", 1, "", (), {}), 0.0):
            if isinstance(send.message, Welcome):
                member = send.message.member
    own = {"metrics": {"loss": 0.5}, "measured": {"accuracy": 0.25}, "samples": 77, "steps": 13, "failure": "at row 9"}
    state.receive(Heartbeat(member, 1, {"clock": 7, **own}), 0.0)
    [row] = shown(state)["workers"]
    assert row["clock"] == 7 and (own.keys() <= row.keys() if dp is None else not own.keys() & row.keys())
