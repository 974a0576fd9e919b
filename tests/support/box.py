"""Box: an inbox without a socket, in whose place a service of the tests takes what they put there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ps.protocol.messages import Message


class Box:
    """An inbox that is filled by hand."""

    address = ""
    drained = True
    speaker = None

    def __init__(self) -> None:
        self.rejected: dict[str, int] = {}
        self.waiting: list[tuple[bytes, Message, Any]] = []
        self.sent: list[tuple[bytes, Message]] = []

    def receive(self, most: int) -> Iterator[tuple[bytes, Message, Any]]:
        batch, self.waiting = self.waiting[:most], self.waiting[most:]
        yield from batch

    def send(self, origin: bytes, message: Message) -> None:
        self.sent.append((origin, message))

    def reach(self, origin: bytes, message: Message) -> bool:
        return True

    def poll(self, milliseconds: int) -> bool:
        return bool(self.waiting)
