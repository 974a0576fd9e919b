"""Promises of the doctor on a host: what is wrong is found, with what to do; what it needs it removes again."""

from __future__ import annotations

import json
import resource
import socket
from pathlib import Path
from typing import Any

import pytest

from ps.cli import main
from ps.doctor import host
from ps.doctor.finding import Finding, exit_code
from ps.errors import Unshared


def test_a_host_is_examined_and_nothing_is_left_behind(tmp_path: Path) -> None:
    findings = host.examine(tmp_path)
    looked = {each.what for each in findings}
    assert {"versions", "cores", "open files", "memory", "own name", "shared memory", "TCP on this host"} <= looked
    assert list(tmp_path.iterdir()) == [] and exit_code(findings) == 0
    assert all(each.advice for each in findings if each.state in ("warning", "wrong"))


def test_a_folder_that_cannot_be_written_is_wrong_and_says_which_option(tmp_path: Path) -> None:
    (what, state, found, advice), *_ = host.disk(tmp_path / "none")()
    assert (state, found) == ("wrong", "No such file or directory") and "--dir" in advice and "none" in what


def test_more_threads_than_cores_and_few_files_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    (_, state, found, advice), *_ = host.processors(500)()
    assert state == "warning" and "500 threads" in found and "--threads" in advice
    monkeypatch.setattr(resource, "getrlimit", lambda what: (64, 64))
    assert [(state, "ulimit" in advice) for _, state, _, advice in host.files()] == [("wrong", True)]
    monkeypatch.setattr(resource, "getrlimit", lambda what: (256, 512))
    assert [state for _, state, _, _ in host.files()] == ["warning"]


def test_a_quota_below_the_cores_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda who: set(range(8)))
    monkeypatch.setattr("ps.cores.cores", lambda: 2)
    (_, state, found, advice), *_ = host.processors(0)()
    assert state == "warning" and "quota is 2" in found and "OMP_NUM_THREADS=2" in advice


def test_a_name_without_address_and_memory_that_cannot_be_shared_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*args: Any) -> None:
        raise socket.gaierror(8, "no such name")

    def unshared(*args: Any) -> None:
        raise Unshared("forbidden here")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    monkeypatch.setattr(host.Segment, "create", unshared)
    assert [state for _, state, _, _ in host.names()] == ["warning"]
    assert [(state, found) for _, state, found, _ in host.sharing()] == [("warning", "not possible: forbidden here")]


def test_what_a_process_ends_with_is_of_the_first_that_is_wrong() -> None:
    fine, wrong = Finding("a", "b", "warning", "c"), Finding("a", "b", "wrong", "c")
    assert exit_code([fine]) == 0 and exit_code([fine, wrong]) == 1
    assert exit_code([wrong, Finding("a", "b", "wrong", "c", code=3)]) == 3


def test_the_command_says_all_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "--json", "--dir", str(tmp_path / "none")]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] == 1 and any(each["state"] == "wrong" for each in told["findings"])
    assert main(["doctor", "--scheduler", "127.0.0.1:1", "--timeout", "1"]) == 3
    assert "127.0.0.1:1" in capsys.readouterr().out
