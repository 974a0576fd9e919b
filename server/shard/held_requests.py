"""HeldRequests: what comes for a chunk that is on its way between two servers, until it is settled which has it."""

from __future__ import annotations

from typing import Any

from ps.protocol.messages import Inquire, Message
from ps.server.send import Origin

MOST = 4096
"""Requests for one chunk that are kept, at most; a worker has one or two. Others are sent again when asked for."""

Request = tuple[Origin, Message, Any]


class HeldRequests:
    """By chunk; the same request again takes the place of the first."""

    def __init__(self) -> None:
        self._by_chunk: dict[int, dict[tuple[int, int], Request]] = {}

    def keep(self, chunk: int, origin: Origin, message: Any, payload: Any) -> None:
        """Keep a request with its payload."""
        held = self._by_chunk.setdefault(chunk, {})
        key = message.member, message.request
        if key in held or len(held) < MOST:
            held[key] = origin, message, payload

    @property
    def chunks(self) -> list[int]:
        """The chunks for which something is kept."""
        return list(self._by_chunk)

    def take(self, chunk: int) -> list[Request]:
        """Return what was kept for a chunk, in the order in which it came; it is the caller's now."""
        return list(self._by_chunk.pop(chunk, {}).values())

    def known(self, origin: Origin, question: Inquire) -> set[int]:
        """Return which of the requests that a worker asks after are kept; its connection may be a new one."""
        found = set()
        for held in self._by_chunk.values():
            for request in question.requests:
                key = question.member, request
                if key in held:
                    held[key] = origin, *held[key][1:]
                    found.add(request)
        return found

    def forget(self, members: set[int]) -> None:
        """Keep nothing of workers that are not among these."""
        for chunk, held in self._by_chunk.items():
            self._by_chunk[chunk] = {key: row for key, row in held.items() if key[0] in members}
