"""Sockets for tests of the protocol: closed whatever happens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from ps.protocol.inbox import Inbox
from ps.protocol.transport import TRANSPORTS, open_socket

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made: zmq.Context[Any] = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def listen(context: zmq.Context[Any], tmp_path: Path) -> Callable[..., tuple[Inbox, str]]:
    """Return a function that opens an inbox and returns it with its address."""

    def make(transport: str = "tcp") -> tuple[Inbox, str]:
        sock = open_socket(context, zmq.ROUTER)
        address = TRANSPORTS[transport].bind(sock, "127.0.0.1", 0, tmp_path)
        return Inbox(sock, "server", 2), address

    return make


@pytest.fixture
def dial(context: zmq.Context[Any]) -> Callable[[str], zmq.Socket[Any]]:
    def make(address: str) -> zmq.Socket[Any]:
        sock = open_socket(context, zmq.DEALER)
        sock.connect(address)
        return sock

    return make
