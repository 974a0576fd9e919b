"""Inboxes: what is said to one in tests, and how it is had to work until there is an answer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from ps.protocol.codec import MAGIC, VERSION, decode, encode
from ps.protocol.inbox import Inbox
from ps.protocol.messages import Message, Pull, Push

HEAD = MAGIC + bytes((VERSION,))

Listen = Callable[..., tuple[Inbox, str]]
Dial = Callable[[str], zmq.Socket[Any]]
PUSH = encode(Push(1, 2, 3, 4, 4, 1.0, 1.0, True))
PULL = encode(Pull(9, 2, 3, 4))


def turn(inbox: Inbox, most: int = 64) -> list[tuple[bytes, Message, Any]]:
    """Wait for something and return what the inbox yields of it."""
    assert inbox.socket.poll(10_000), "nothing came"
    return list(inbox.receive(most))


def answer(inbox: Inbox, peer: zmq.Socket[Any]) -> Message:
    """Let the inbox work until the peer has an answer; return it."""
    deadline = time.monotonic() + 20
    while not peer.poll(1):
        assert time.monotonic() < deadline, "no answer"
        if inbox.socket.poll(20):
            list(inbox.receive(64))
    message: Message = decode(peer.recv_multipart()[0])
    return message


def memory() -> int:
    """Return this process's resident memory in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
