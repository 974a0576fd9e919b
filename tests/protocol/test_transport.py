"""Promises of the transports: the fastest address that works is taken, and what cannot be used is named."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from ps.errors import AddressInUse, ConfigError, Refused
from ps.protocol.transport import SHM, TRANSPORTS, advertised, check_address, choose, reachable_host

Open = Callable[[int], zmq.Socket[Any]]
TCP = "tcp://otherhost:7071"


@pytest.fixture
def ipc(open_one: Open, tmp_path: Path) -> str:
    """The address of a Unix socket that is listened on."""
    return TRANSPORTS["ipc"].bind(open_one(zmq.ROUTER), "127.0.0.1", 0, tmp_path)


def test_auto_takes_the_unix_socket_when_it_is_here_whatever_the_order(ipc: str) -> None:
    assert choose((TCP, ipc), "auto", "server 0") == [ipc, TCP]
    assert choose((ipc, TCP), "auto", "server 0") == [ipc, TCP]


def test_auto_tries_shared_memory_first_and_takes_nothing_else_when_it_is_wanted(ipc: str, tmp_path: Path) -> None:
    listener, shm = SHM.listen(tmp_path)
    with listener:
        assert choose((TCP, ipc, shm), "auto", "server 0") == [shm, ipc, TCP]
        assert choose((TCP, ipc, shm), "shm", "server 0") == [shm]


def test_auto_takes_tcp_when_the_socket_file_is_not_on_this_host(tmp_path: Path) -> None:
    assert choose((f"ipc://{tmp_path}/gone.sock", TCP), "auto", "server 0") == [TCP]


def test_auto_takes_tcp_when_the_path_is_something_else_here(tmp_path: Path) -> None:
    (tmp_path / "file.sock").touch()
    assert choose((f"ipc://{tmp_path}/file.sock", TCP), "auto", "server 0") == [TCP]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_auto_takes_tcp_when_the_socket_belongs_to_somebody_else(ipc: str) -> None:
    Path(ipc.removeprefix("ipc://")).chmod(stat.S_IRUSR)
    assert choose((ipc, TCP), "auto", "server 0") == [TCP]


def test_tcp_is_taken_when_it_is_wanted(ipc: str) -> None:
    assert choose((ipc, TCP), "tcp", "server 0") == [TCP]


def test_a_wanted_transport_that_does_not_reach_the_peer_is_an_error_that_names_it(tmp_path: Path) -> None:
    gone = f"ipc://{tmp_path}/gone.sock"
    with pytest.raises(Refused, match=r"server 3 \(h, pid 5\) cannot be reached by ipc from here") as caught:
        choose((gone, TCP), "ipc", "server 3 (h, pid 5)")
    assert gone in str(caught.value)
    assert "--transport auto" in str(caught.value)
    with pytest.raises(Refused, match="it offers nothing"):
        choose((), "auto", "server 0")


def test_tcp_says_the_port_it_got(open_one: Open, tmp_path: Path) -> None:
    address = TRANSPORTS["tcp"].bind(open_one(zmq.ROUTER), "127.0.0.1", 0, tmp_path)
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    assert host == "127.0.0.1"
    socket.create_connection((host, int(port)), timeout=5).close()
    assert check_address(address) == address


def test_a_listener_everywhere_is_reached_by_the_hosts_name() -> None:
    assert reachable_host("0.0.0.0") == reachable_host("::") == reachable_host("*") == socket.gethostname()
    assert reachable_host("10.0.0.7") == "10.0.0.7"
    assert reachable_host("fe80::1") == "[fe80::1]"


def test_what_is_advertised_replaces_what_is_bound_and_has_its_port_unless_it_names_one() -> None:
    assert advertised("tcp://10.0.0.7:4711", None) == "tcp://10.0.0.7:4711"
    assert advertised("tcp://0.0.0.0:4711", "tcp://gate") == "tcp://gate:4711"
    assert advertised("tcp://[::1]:4711", "tcp://[fd00::2]") == "tcp://[fd00::2]:4711"
    assert advertised("tcp://10.0.0.7:4711", "tcp://gate:31000") == "tcp://gate:31000"


def test_a_port_in_use_is_one_line_that_says_what_to_do(open_one: Open, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=f"tcp://127.0.0.1:{port} is in use .* --port") as caught:
            TRANSPORTS["tcp"].bind(open_one(zmq.ROUTER), "127.0.0.1", port, tmp_path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("host", ["192.0.2.1", "not an address", ""])
def test_a_host_that_is_not_here_is_a_configuration_error(open_one: Open, tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on .*--host must be an address of this machine"):
        TRANSPORTS["tcp"].bind(open_one(zmq.ROUTER), host, 0, tmp_path)


def test_a_directory_too_deep_for_a_unix_socket_is_named_with_the_flag(open_one: Open, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    with pytest.raises(ConfigError, match=r"longer than the 107 characters .*--runtime-dir"):
        TRANSPORTS["ipc"].bind(open_one(zmq.ROUTER), "127.0.0.1", 0, deep)


def test_a_directory_that_does_not_exist_is_named_with_the_flag(open_one: Open, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on ipc://.*nowhere.*--runtime-dir"):
        TRANSPORTS["ipc"].bind(open_one(zmq.ROUTER), "127.0.0.1", 0, Path("/tmp/nowhere"))


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
