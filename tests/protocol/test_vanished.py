"""Promises about hosts that vanish without a goodbye: the connection is made anew, and no slow one is cut for it."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq

from ps.protocol.sockets import DEAF
from support.zmtp import greet

Open = Callable[[int], zmq.Socket[Any]]
BOUND = 20.0
"""Seconds that anything here may take."""
SO_ATTACH_FILTER = 26
NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
"""A packet filter of one instruction: nothing passes."""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's packet filters")


@pytest.fixture
def listener() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(BOUND)
        yield sock


def vanish(sock: socket.socket) -> None:
    """From now on the system acknowledges nothing that comes to this socket, as if its host were gone."""
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(NOTHING)))


def dealer(open_one: Open, listener: socket.socket) -> tuple[zmq.Socket[Any], socket.socket]:
    ours = open_one(zmq.DEALER)
    ours.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    theirs, _ = listener.accept()
    theirs.settimeout(BOUND)
    return ours, greet(theirs, b"ROUTER")


def test_a_connection_whose_other_end_has_vanished_is_made_anew_soon(open_one: Open, listener: socket.socket) -> None:
    ours, theirs = dealer(open_one, listener)
    with theirs:
        ours.send(b"are you there?")
        assert theirs.recv(100)
        vanish(theirs)
        ours.send(b"and now?")
        began = time.monotonic()
        again, _ = listener.accept()
        again.close()
        assert time.monotonic() - began < DEAF + 5


def test_one_that_reads_slowly_but_lives_is_not_cut(open_one: Open, listener: socket.socket) -> None:
    ours, theirs = dealer(open_one, listener)
    size = 8 << 20
    with theirs:
        ours.send(bytes(size))
        got, began = 0, time.monotonic()
        while got < size:
            got += len(theirs.recv(256 << 10))
            while time.monotonic() - began < 2 * DEAF * got / size:
                time.sleep(0.01)
        assert time.monotonic() - began > 1.5 * DEAF
        listener.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            listener.accept()
