"""Promises of a free port: outgoing connections cannot take it while nobody listens there."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from ps.protocol.transports import tcp
from ps.protocol.transports.free_port import HIGH, LOW, RANGE, TRIES, draw_ports

Open = Callable[[int], zmq.Socket[Any]]


@pytest.mark.parametrize("text", ["32768\t60999\n", "1024 30000", "40000 65535", "20001 65535", "0 0"])
def test_what_is_drawn_lies_outside_of_the_systems_range(tmp_path: Path, text: str) -> None:
    (tmp_path / "range").write_text(text)
    low, high = map(int, text.split())
    for seed in range(20):
        drawn = list(draw_ports(tmp_path / "range", random.Random(seed)))
        assert 0 < len(set(drawn)) == len(drawn) <= TRIES
        assert all(LOW <= port <= HIGH and not low <= port <= high for port in drawn)


@pytest.mark.parametrize("text", ["1024 65535", "", "a b", "1 2 3"])
def test_where_there_are_none_the_system_gives_one(
    tmp_path: Path, text: str, open_one: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "range").write_text(text)
    drawn = list(draw_ports(tmp_path / "range"))
    assert drawn == []
    monkeypatch.setattr(tcp, "draw_ports", lambda: drawn)
    monkeypatch.setattr(tcp, "is_loopback", lambda host, resolve: False)
    assert tcp.Tcp().bind(open_one(zmq.ROUTER), "127.0.0.1", 0, tmp_path).startswith("tcp://127.0.0.1:")


def test_two_processes_draw_differently() -> None:
    if not RANGE.exists():
        pytest.skip("this system has no such range")
    assert list(draw_ports()) != list(draw_ports())


def test_ports_that_are_taken_are_passed_over(tmp_path: Path, open_one: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        with socket.create_server(("127.0.0.1", 0)) as three:
            free = three.getsockname()[1]
        ports = [one.getsockname()[1], two.getsockname()[1], free]
        monkeypatch.setattr(tcp, "draw_ports", lambda: ports)
        monkeypatch.setattr(tcp, "is_loopback", lambda host, resolve: False)
        assert tcp.Tcp().bind(open_one(zmq.ROUTER), "127.0.0.1", 0, tmp_path) == f"tcp://127.0.0.1:{free}"
