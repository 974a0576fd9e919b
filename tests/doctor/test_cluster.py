"""Promises of the doctor of a cluster: who cannot be reached, is silent, has another clock or software, and waits."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ps import about
from ps.doctor import cluster
from ps.doctor.finding import exit_code
from ps.errors import ConnectTimeout, Refused
from ps.protocol import query


def status(**more: Any) -> dict[str, Any]:
    server = {"rank": 0, "state": "live", "last_seen_s": 0.1, "host": "b", "skew_s": 0.0, "software": about.software()}
    server |= {"addresses": ["ipc:///x", "tcp://10.0.0.2:5000"], "pid": 1}
    job = {"phase": "waiting", "job": {"heartbeat_timeout": 10.0}, "scheduler": {"time": time.time()}}
    return {**job, "servers": [server], "workers": [], **more}


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What asking comes to, by address; whoever is not there answers."""
    answers: dict[str, Any] = {"status": status()}

    def ping(address: str, timeout: float) -> dict[str, Any]:
        if isinstance(answer := answers.get(address, 0.4), Exception):
            raise answer
        return {"ms": answer}

    monkeypatch.setattr(query, "fetch_status", lambda *args: answers["status"])
    monkeypatch.setattr(query, "ping", ping)
    return answers


def found(*states: str) -> list[tuple[str, str, str]]:
    findings = cluster.examine("tcp://10.0.0.1:7070", 1.0)
    return [(each.about, each.what, each.advice) for each in findings if each.state in states]


def test_a_job_that_is_well_has_no_findings_to_be_looked_at(reached: dict[str, Any]) -> None:
    assert found("warning", "wrong", "unknown") == []
    assert len(found("ok")) == 5


def test_a_server_that_is_not_reached_from_here_is_wrong_and_its_code_is_that_of_ping(reached: dict[str, Any]) -> None:
    reached["tcp://10.0.0.2:5000"] = ConnectTimeout("no reply")
    assert [about for about, _, _ in found("wrong")] == ["server 0"]
    assert exit_code(cluster.examine("tcp://10.0.0.1:7070", 1.0)) == 3
    reached["tcp://10.0.0.2:5000"] = Refused("no")
    assert exit_code(cluster.examine("tcp://10.0.0.1:7070", 1.0)) == 7


def test_a_server_that_gives_others_an_address_of_its_own_host_is_told_to_advertise(reached: dict[str, Any]) -> None:
    reached["status"]["servers"][0]["addresses"] = ["tcp://127.0.0.1:5000"]
    reached["tcp://127.0.0.1:5000"] = ConnectTimeout("no reply")
    ((_, _, advice),) = found("wrong")
    assert "--advertise" in advice and "own host only" in advice


def test_who_is_silent_slow_early_or_of_another_version_is_named(reached: dict[str, Any]) -> None:
    row = reached["status"]["servers"][0]
    row |= {"last_seen_s": 8.0, "skew_s": 30.0, "software": "paramserver 9"}
    reached["tcp://10.0.0.2:5000"] = 90.0
    assert [what for _, what, _ in found("warning")] == ["clock", "reaches the scheduler", "reached", "versions"]
    reached["status"]["scheduler"]["time"] -= 100
    clocks = [each for each in cluster.examine("tcp://10.0.0.1:7070", 1.0) if each.what == "clock"]
    assert [(each.about, each.found.split()[-1]) for each in clocks] == [
        ("scheduler", "behind"),
        ("server 0", "behind"),
    ]


def test_long_waits_are_findings(reached: dict[str, Any]) -> None:
    wait = {"who": "worker 0", "for": "worker 1", "what": "a barrier", "seconds": 60.0}
    reached["status"] |= {"waits": [wait, {**wait, "seconds": 2.0}]}
    assert [what for _, what, _ in found("warning")] == ["wait"]


def test_a_model_whose_checkpoints_find_no_room_is_told_of(reached: dict[str, Any]) -> None:
    reached["status"]["servers"][0]["bytes"] = 40_000_000
    assert found("warning") == [] and "room for checkpoints" in {what for _, what, _ in found("ok")}
    reached["status"]["servers"][0]["bytes"] = 1 << 60
    ((_, what, advice),) = found("warning")
    assert what == "room for checkpoints" and "--keep" in advice


def test_a_name_that_is_nobodys_is_wrong(reached: dict[str, Any]) -> None:
    findings = cluster.examine("tcp://no-such-host.invalid:7070", 1.0)
    assert [(each.what, each.state) for each in findings][:1] == [("name", "wrong")]
