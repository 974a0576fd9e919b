"""Sockets for tests of the protocol: closed whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from ps.protocol.guarded_context import GuardedContext
from ps.protocol.inbox import Inbox
from ps.protocol.security import Security
from ps.protocol.sockets import open_socket
from ps.protocol.transports.ipc import Ipc
from ps.protocol.transports.tcp import Tcp


@pytest.fixture
def open_one() -> Iterator[Callable[[int], zmq.Socket[Any]]]:
    """A function that opens a socket of a kind; all are closed in the end."""
    context = GuardedContext.of(Security(insecure=True))
    made: list[zmq.Socket[Any]] = []

    def make(kind: int) -> zmq.Socket[Any]:
        made.append(open_socket(context, kind))
        return made[-1]

    yield make
    for sock in made:
        sock.close(0)
    context.term()


@pytest.fixture
def listen(open_one: Callable[[int], zmq.Socket[Any]], tmp_path: Path) -> Callable[..., tuple[Inbox, str]]:
    """Return a function that opens an inbox and returns it with its address."""

    def make(transport: str = "tcp") -> tuple[Inbox, str]:
        sock = open_one(zmq.ROUTER)
        address = (Ipc() if transport == "ipc" else Tcp()).bind(sock, "127.0.0.1", 0, tmp_path)
        return Inbox(sock, "server", 2), address

    return make


@pytest.fixture
def dial(open_one: Callable[[int], zmq.Socket[Any]]) -> Callable[[str], zmq.Socket[Any]]:
    def make(address: str) -> zmq.Socket[Any]:
        sock = open_one(zmq.DEALER)
        sock.connect(address)
        return sock

    return make
