"""Promises of the transports: the fastest address that works is taken, and what cannot be used is named."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from ps.errors import Refused
from ps.protocol.transports.ipc import Ipc
from ps.protocol.transports.registry import choose
from ps.protocol.transports.unix_listener import listen

Open = Callable[[int], zmq.Socket[Any]]
TCP = "tcp://otherhost:7071"


@pytest.fixture
def ipc(open_one: Open, tmp_path: Path) -> str:
    """The address of a Unix socket that is listened on."""
    return Ipc().bind(open_one(zmq.ROUTER), "127.0.0.1", 0, tmp_path)


def test_auto_takes_the_unix_socket_when_it_is_here_whatever_the_order(ipc: str) -> None:
    assert choose((TCP, ipc), "auto", "server 0") == [ipc, TCP]
    assert choose((ipc, TCP), "auto", "server 0") == [ipc, TCP]


def test_auto_tries_shared_memory_first_and_takes_nothing_else_when_it_is_wanted(ipc: str, tmp_path: Path) -> None:
    listener, shm = listen(tmp_path)
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
