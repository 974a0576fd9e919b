"""Promises of addresses: they are written out, and what is none is refused."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from ps.errors import ConfigError
from ps.protocol import addresses
from ps.protocol.addresses import advertised, check_address, host_towards, reachable_host


def test_a_listener_everywhere_is_reached_by_the_address_on_the_way_out_and_without_one_by_the_hosts_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = reachable_host("0.0.0.0")
    assert found == reachable_host("::") == reachable_host("*")
    if found != socket.gethostname():
        assert not ipaddress.ip_address(found.strip("[]")).is_loopback
    monkeypatch.setattr(addresses, "OUTSIDE", ())
    assert reachable_host("*") == socket.gethostname()
    assert reachable_host("10.0.0.7") == "10.0.0.7"
    assert reachable_host("fe80::1") == "[fe80::1]"


def test_what_is_advertised_replaces_what_is_bound_and_has_its_port_unless_it_names_one() -> None:
    assert advertised("tcp://10.0.0.7:4711", None) == "tcp://10.0.0.7:4711"
    assert advertised("tcp://0.0.0.0:4711", "tcp://gate") == "tcp://gate:4711"
    assert advertised("tcp://[::1]:4711", "tcp://[fd00::2]") == "tcp://[fd00::2]:4711"
    assert advertised("tcp://10.0.0.7:4711", "tcp://gate:31000") == "tcp://gate:31000"


def test_a_listener_everywhere_is_reached_by_the_address_on_its_way_to_the_scheduler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def own_host(place: tuple[str, int]) -> str:
        asked.append(place)
        return "10.9.8.7"

    monkeypatch.setattr(addresses, "_own_host", own_host)
    there = "tcp://10.9.0.1:7070"
    assert advertised("tcp://name:4711", None, "*", there) == "tcp://10.9.8.7:4711"
    assert asked == [("10.9.0.1", 7070)]
    assert advertised("tcp://10.0.0.7:4711", None, "10.0.0.7", there) == "tcp://10.0.0.7:4711"
    assert advertised("tcp://name:4711", "tcp://gate", "*", there) == "tcp://gate:4711"


def test_the_way_to_this_host_itself_says_nothing() -> None:
    assert host_towards("tcp://127.0.0.1:7070") == host_towards("tcp://[::1]:7070") == ""
    assert advertised("tcp://name:4711", None, "*", "tcp://127.0.0.1:7070") == "tcp://name:4711"


@pytest.mark.parametrize("scheduler", ["", "ipc:///a.sock", "file:/x", "tcp://no.such.host.invalid:7070", "tcp://..:1"])
def test_where_there_is_no_way_the_address_stays(scheduler: str) -> None:
    assert advertised("tcp://name:4711", None, "*", scheduler) == "tcp://name:4711"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("tcp://h:7070", "tcp://h:7070"),
        ("h:7070", "tcp://h:7070"),
        ("[::1]:7070", "tcp://[::1]:7070"),
        ("10.0.0.1:1", "tcp://10.0.0.1:1"),
        ("ipc:///tmp/a.sock", "ipc:///tmp/a.sock"),
    ],
)
def test_an_address_is_written_out(given: str, address: str) -> None:
    assert check_address(given) == address


@pytest.mark.parametrize(
    "text",
    ["", "h", "tcp://h", "tcp://h:0", "tcp://h:70000", "tcp://h:x", "tcp://:7070", "http://h:80", "udp://h:7070", "ipc://",
     "tcp://h:1/path", "tcp://user@h:1", "tcp://h:1?q", "tcp://a b:1", "tcp://h:1\n", "tcp://[::1:1"],
)  # fmt: skip
def test_what_is_no_address_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="is not an address; expected tcp://HOST:PORT") as caught:
        check_address(text)
    assert "\n" not in str(caught.value)
