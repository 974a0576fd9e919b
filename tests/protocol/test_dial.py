"""Promises of connecting by name: the family in which somebody listens is taken, and what cannot be is said."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from ps.protocol import dial as module
from ps.protocol.dial import AGAIN, Dial, Route, doubts, look

V4, V6 = "127.0.0.1", "::1"


def places(*hosts: str) -> Any:
    """Return a resolver for which every name has these addresses, in this order."""

    def resolve(host: str, port: int) -> list[Any]:
        kind = socket.SOCK_STREAM
        return [
            (socket.AF_INET6, kind, 6, "", (name, port, 0, 0))
            if ":" in name
            else (socket.AF_INET, kind, 6, "", (name, port))
            for name in hosts
        ]

    return resolve


def nobody(host: str, port: int) -> list[Any]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture(params=[V4, V6])
def listener(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    family = socket.AF_INET6 if request.param == V6 else socket.AF_INET
    try:
        server = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip("this machine has no such loopback address")
    with server:
        yield request.param, server.getsockname()[1]


class Socket:
    """What a Dial does to a socket."""

    def __init__(self) -> None:
        self.ipv6 = -1
        self.context = None
        self.connected: list[tuple[str, int]] = []

    def setsockopt(self, option: int, value: int) -> None:
        assert option == zmq.IPV6
        self.ipv6 = value

    def connect(self, address: str) -> None:
        self.connected.append((address, self.ipv6))

    def disconnect(self, address: str) -> None:
        self.connected = [pair for pair in self.connected if pair[0] != address]


@pytest.mark.parametrize("order", [(V4, V6), (V6, V4)])
def test_of_a_name_with_both_families_the_one_is_taken_in_which_somebody_listens(
    listener: tuple[str, int], order: tuple[str, ...]
) -> None:
    host, port = listener
    assert look(f"tcp://twin:{port}", resolve=places(*order)) == Route(ipv6=host == V6)


def test_where_somebody_listens_in_both_families_ipv4_is_taken_whatever_the_order_of_the_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def answers(place: Any, timeout: float) -> str:
        asked.append(place[4][0])
        return ""

    monkeypatch.setattr(module, "_refusal", answers)
    for order in ((V4, V6), (V6, V4)):
        assert look("tcp://twin:7070", resolve=places(*order)) == Route(ipv6=False)
    assert asked == [V4, V4]


def test_where_nobody_listens_yet_both_families_are_named_and_the_way_changes_when_somebody_does(
    listener: tuple[str, int],
) -> None:
    host, port = listener
    with socket.create_server((V4, 0)) as spare:
        free = spare.getsockname()[1]
    way = look(f"tcp://twin:{free}", resolve=places(V6, V4))
    assert not way.ipv6 and V4 in way.trouble and V6 in way.trouble and str(free) in way.trouble

    address, sock = f"tcp://twin:{port}", Socket()
    dial = Dial(sock, address, 0.0, places(V6 if host == V4 else V4))  # type: ignore[arg-type]
    assert sock.connected == [(address, int(host == V4))]
    dial._resolve = places(V6, V4)
    assert dial.again(AGAIN / 2) == "" and sock.connected == [(address, int(host == V4))]
    assert dial.again(AGAIN) == "" and sock.connected == [(address, int(host == V6))]


def test_a_name_that_no_host_has_is_named_once_for_each_reason() -> None:
    dial = Dial(Socket(), "tcp://nowhere:7070", 0.0, nobody)  # type: ignore[arg-type]
    assert dial.again(1.0) == "nowhere is the name of no host (Name or service not known)"
    assert dial.again(2.0) == ""


@pytest.mark.parametrize("name", ["a" * 300, "x..y", "."])
def test_a_name_that_no_host_can_have_is_no_traceback(name: str) -> None:
    assert look(f"tcp://{name}:7070", probing=True).trouble


@pytest.mark.parametrize(
    ("address", "scheduler", "host"),
    [
        ("tcp://127.0.0.1:9", "tcp://127.0.0.1:7070", V4),
        ("tcp://10.0.0.2:9", "tcp://10.0.0.1:7070", "10.0.0.2"),
        ("tcp://10.0.0.2:9", "ipc:///tmp/s", V4),
    ],
)
def test_an_address_that_others_reach_is_in_no_doubt(address: str, scheduler: str, host: str) -> None:
    assert doubts(address, scheduler, places(host)) == ""


def test_loopback_is_in_doubt_when_the_scheduler_is_elsewhere_and_so_is_a_name_that_not_even_this_host_knows() -> None:
    def resolve(host: str, port: int) -> list[Any]:
        return list(places(host)(host, port))

    assert "this host only" in doubts("tcp://127.0.0.1:9", "tcp://10.0.0.1:7070", resolve)
    assert "not even this host knows box" in doubts("tcp://box:9", "tcp://10.0.0.1:7070", nobody)
