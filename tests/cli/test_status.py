"""Promises of psctl status and ping: all that matters is on the page, and JSON is the status itself."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from ps.cli import main
from ps.cli.view import view
from ps.errors import ConnectTimeout
from ps.protocol import query

STATUS: dict[str, Any] = {
    "job": {"mode": "ssp", "workers": 2},
    "epoch": 3,
    "phase": "running",
    "reason": "",
    "uptime_s": 61.5,
    "scheduler": {"address": "tcp://10.0.0.1:7070", "rejected": {"bad header": 3}},
    "servers": [
        {
            "id": 1,
            "rank": 0,
            "addresses": ["tcp://10.0.0.1:1"],
            "state": "live",
            "last_seen_s": 0.3,
            "pid": 17,
            "host": "a",
            "clock": 12,
            "bytes": 4000,
            "rejected": {},
            "waiting": [{"clock": 417, "for": [3], "seconds": 12.1}],
        }
    ],
    "workers": [
        {
            "id": 2,
            "rank": 0,
            "state": "live",
            "last_seen_s": 0.1,
            "pid": 18,
            "host": "[bold]b",
            "clock": 417,
            "lag": 5,
            "samples_per_s": 1234.0,
            "metrics": {"loss": 0.25},
            "bytes_up": 1000,
            "bytes_down": 2_000_000,
            "wait_s": 3.0,
            "waiting_for": [3],
            "waiting_s": 12.1,
        },
        {"id": 3, "rank": 3, "state": "dead", "metrics": {"loss": None}},
    ],
    "deaths": [{"role": "worker", "rank": 3, "why": "no heartbeat for 10 s", "clock": 417}],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def fetch_status(address: str, timeout: float, keys: str | None) -> dict[str, Any]:
        found.append(address)
        return STATUS

    def ping(address: str, timeout: float, keys: str | None) -> dict[str, Any]:
        found.append(address)
        return {"role": "server", "version": 1, "ms": 0.314, "rank": 2}

    monkeypatch.setattr(query, "fetch_status", fetch_status)
    monkeypatch.setattr(query, "ping", ping)
    return found


def test_the_page_shows_members_clocks_lag_and_who_waits_for_whom(
    asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--scheduler", "10.0.0.1"]) == 0
    page = capsys.readouterr().out
    assert asked == ["tcp://10.0.0.1:7070"]
    assert "ssp: running · epoch 3 · up 62 s" in page
    assert "rejected 3 × bad header" in page
    assert "worker 0 has waited 12 s for worker 3, clock 417" in page
    assert "worker 3 died: no heartbeat for 10 s, at clock 417" in page
    [row] = [line for line in page.splitlines() if line.strip().startswith("worker 0 ") and "has waited" not in line]
    for word in ("live", "[bold]b 18", "417", " 5 ", "1,234", "0.25", " 0.0 ", " 2.0 ", "worker 3 (12.1 s)"):
        assert word in row


FEDERATED: dict[str, Any] = {
    "algorithm": "scaffold",
    "phase": "collect",
    "round": 3,
    "rounds": 10,
    "attempt": 5,
    "goal": 4,
    "accepted": 2,
    "active": 3,
    "refused": {"nan": 2, "late": 1},
    "capped": 1,
    "abandoned": 1,
    "slow": [4],
    "fruitless": list(range(12)),
    "history": [
        {
            "round": 2,
            "seconds": 0.521,
            "selected": 5,
            "accepted": 4,
            "steps": 48,
            "examples": 1438.0,
            "metrics": {"[b]loss": {"mean": 0.5, "min": 0.1, "p10": 0.2, "p50": 0.4, "p90": 0.9, "max": None, "n": 4}},
        }
    ],
}


def test_the_page_of_a_federated_job_shows_its_rounds_what_was_refused_and_how_metrics_are_distributed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(query, "fetch_status", lambda address, timeout, keys: {**STATUS, "federated": FEDERATED})
    assert main(["status"]) == 0
    page = capsys.readouterr().out
    assert "scaffold: collect · round 4 of 10 · attempt 5 · 2 of 4 accepted · 3 training" in page
    assert "refused 1 × late, 2 × nan · 1 capped · 1 abandoned" in page
    assert "often late, or too slow to be waited for: client 4\n" in page
    assert "nothing counts: clients 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more" in page
    assert "last round: 0.52 s, 4 of 5 counted, 48 steps on 1,438 examples" in page
    [row] = [line for line in page.splitlines() if "[b]loss" in line]
    assert row.split() == ["[b]loss", "0.5", "0.1", "0.2", "0.4", "0.9", "4"]


def test_a_federated_job_before_its_first_round_is_shown_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(query, "fetch_status", lambda address, timeout, keys: {"federated": {"rounds": 2}})
    assert main(["status"]) == 0
    assert "round 1 of 2" in capsys.readouterr().out


def test_a_job_without_workers_says_for_how_long_its_model_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = {"phase": "running", "idle_s": 12.3, "job": {"idle_timeout": 600.0}}
    monkeypatch.setattr(query, "fetch_status", lambda address, timeout=5.0, keys=None: status)
    assert main(["status"]) == 0
    assert "no worker for 12 s; the model is kept for 600 s (--idle-timeout)" in capsys.readouterr().out


def test_json_is_the_status_itself(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS
    assert asked == ["tcp://127.0.0.1:7070"]


def test_an_empty_status_is_shown_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "fetch_status", lambda address, timeout, keys: {})
    assert main(["status"]) == 0


def test_watching_goes_on_until_it_is_interrupted(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sleep(seconds: float) -> None:
        if len(asked) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("ps.cli.status.time.sleep", sleep)
    assert main(["status", "--watch", "--json"]) == 130
    assert len(capsys.readouterr().out.splitlines()) == 3
    asked.clear()
    assert main(["status", "--watch"]) == 130
    assert len(asked) == 3


def test_ping_says_who_answered_and_how_fast(
    asked: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["ping", "10.0.0.2:80"]) == 0
    assert capsys.readouterr().out == ("server 2 at tcp://10.0.0.2:80 answered in 0.31 ms (protocol 1)\n")
    monkeypatch.setenv("PS_SCHEDULER", "b")
    assert main(["ping", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["address"] == "tcp://b:7070"


def test_nobody_there_is_exit_code_3_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ping(address: str, timeout: float, keys: str | None) -> dict[str, Any]:
        raise ConnectTimeout(f"no reply from {address} after {timeout:g} s")

    monkeypatch.setattr(query, "ping", ping)
    assert main(["ping", "a:1", "--timeout", "0.1"]) == 3
    assert capsys.readouterr().err == "psctl: error: no reply from tcp://a:1 after 0.1 s\n"


@pytest.mark.parametrize("federated", [False, True])
def test_the_page_fits_80_columns_with_all_its_figures(federated: bool) -> None:
    big = {"clock": 9_876_543, "lag": 98_765, "samples_per_s": 1.2e8, "metrics": {"loss": -0.00012345}, "steps": 4_321}
    more = {"bytes_up": 12_345_678_901_234, "bytes_down": 12_345, "wait_s": 12_345.6, "last_seen_s": 123.4}
    row = {"rank": 1234, "state": "live", "host": "a-host-with-a-name.example.org", "pid": 4_194_304, **big, **more}
    status = {**STATUS, "workers": [row], "servers": [{**row, "rejected": {"bad header": 3}}], "deaths": []}
    out = StringIO()
    console = Console(file=out, width=80)
    console.print(view({**status, **({"federated": FEDERATED} if federated else {})}, 80))
    lines = out.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80 and "…" not in out.getvalue()
    [shown] = [line for line in lines if line.startswith("client 1234 " if federated else "worker 1234 ")]
    for figure in ("live", "123.4", "9876543", "120.0M", "-0.000123", "12.3", "12,346"):
        assert figure in shown
    assert "server 1234 has rejected 3 × bad header" in out.getvalue()


def test_the_page_says_for_whom_a_job_waits_and_what_was_measured() -> None:
    out = StringIO()
    waiting = {"phase": "waiting", "job": {"servers": 2, "workers": 2}, "servers": [{"rank": 0, "state": "live"}]}
    Console(file=out, width=80).print(view(waiting, 80))
    assert "waiting for members: 1 of 2 servers, 0 of 2 workers here" in out.getvalue()
    worker = {**STATUS["workers"][0], "measured": {"accuracy": 0.75}, "measured_clock": 400}
    Console(file=out, width=80).print(view({**STATUS, "workers": [worker]}, 80))
    assert "measured last: accuracy 0.75" in out.getvalue()


def test_the_newest_checkpoint_and_the_one_under_way_are_shown() -> None:
    found = {"step": 400, "folder": "step-000400", "life": 1, "ago_s": 12.3, "where": "s3://[b]kept"}
    under_way = {"clock": 410, "waiting_for": ["server 1"], "waiting_s": 2.5, "trouble": "server 0: no room"}
    for more, words in (
        ({}, ["step-000400, of step 400, 12 s ago · in s3://[b]kept"]),
        (
            under_way,
            ["checkpoint of step 410: 2.5 s, waits for server 1", "the last checkpoint failed: server 0: no room"],
        ),
        ({"folder": "", "step": -1}, ["no checkpoint is whole yet"]),
    ):
        out = StringIO()
        Console(file=out, width=140).print(view({**STATUS, "checkpoint": {**found, **more}}, 140))
        assert all(word in out.getvalue() for word in words), out.getvalue()
