"""Promises of what ZeroMQ listens on: the address is known, and what cannot be listened on says what to do."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from ps.errors import AddressInUse, ConfigError
from ps.protocol.addresses import check_address
from ps.protocol.descriptor_guard import LEAST
from ps.protocol.transports.ipc import Ipc
from ps.protocol.transports.tcp import Tcp
from ps.protocol.transports.transport import Place

Open = Callable[[int], zmq.Socket[Any]]


def test_tcp_says_the_port_it_got(open_one: Open, tmp_path: Path) -> None:
    address = Tcp().bind(open_one(zmq.ROUTER), "127.0.0.1", 0, tmp_path)
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    assert host == "127.0.0.1"
    socket.create_connection((host, int(port)), timeout=5).close()
    assert check_address(address) == address


def test_a_port_in_use_is_one_line_that_says_what_to_do(open_one: Open, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=f"tcp://127.0.0.1:{port} is in use .* --port") as caught:
            Tcp().bind(open_one(zmq.ROUTER), "127.0.0.1", port, tmp_path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("host", ["192.0.2.1", "not an address", ""])
def test_a_host_that_is_not_here_is_a_configuration_error(open_one: Open, tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on .*--host must be an address or a name of this") as caught:
        Tcp().bind(open_one(zmq.ROUTER), host, 0, tmp_path)
    assert str(caught.value).count("tcp://") == 1


def test_a_directory_too_deep_for_a_unix_socket_is_named_with_the_flag(open_one: Open, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    with pytest.raises(ConfigError, match=r"longer than the 107 characters .*--runtime-dir"):
        Ipc().bind(open_one(zmq.ROUTER), "127.0.0.1", 0, deep)


def test_a_directory_that_does_not_exist_is_named_with_the_flag(open_one: Open, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on ipc://.*nowhere.*--runtime-dir"):
        Ipc().bind(open_one(zmq.ROUTER), "127.0.0.1", 0, Path("/tmp/nowhere"))


def test_ipc_is_offered_only_where_there_are_files_enough_and_a_line_says_so(
    open_one: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    guarded: list[str] = []
    guard: Any = SimpleNamespace(guard_file=guarded.append)
    place = Place(open_one(zmq.ROUTER), "127.0.0.1", 0, tmp_path, zmq.Poller(), Counter(), guard)
    monkeypatch.setattr("ps.descriptors.allowed", lambda: LEAST - 1)
    assert Ipc().listen(place) is None and not list(tmp_path.iterdir())
    assert f"may open {LEAST - 1} files, too few to offer ipc; it does with {LEAST} (ulimit -n)" in caplog.text
    monkeypatch.setattr("ps.descriptors.allowed", lambda: LEAST)
    listening = Ipc().listen(place)
    assert listening is not None and guarded == [listening.address] and Ipc().reaches(listening.address)
