"""Early: requests that came before this server's news of the job, or of their worker. They are no mistake: the worker
heard from the scheduler first.
"""

from __future__ import annotations

from collections.abc import Iterable

from ps.protocol.messages import Inquire, Message, Share, SharePart, Waiting
from ps.protocol.messages.data import NOT_YET
from ps.server.send import Origin, Send

MOST = 256
"""Requests that are kept, at most. A worker that asks after one that was not is told to send it again."""
MOST_LARGE = 4
"""Of these, those that are large: a model's layout, of which one is enough."""


class Early:
    """Keeps early requests by their sender and number; the same one again replaces the first."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int | Origin, int], tuple[Origin, Message]] = {}

    def keep(self, origin: Origin, message: Message) -> None:
        """Keep a request if there is room. One with a tensor would need too much: it is asked for again instead."""
        key = _sender(origin, message), getattr(message, "request", 0)
        if message.payload or not (key in self._kept or len(self._kept) < MOST):
            return
        if message.large and sum(kept.large for _, kept in self._kept.values()) >= MOST_LARGE:
            return
        self._kept[key] = origin, message

    def put_off(self, origin: Origin, message: Message) -> list[Send]:
        """Keep what comes before this server has heard of the job; who asks after it is told to be patient."""
        if isinstance(message, Inquire):
            self.known(origin, message)
        else:
            self.keep(origin, message)
        return [Send(origin, not_yet(message.request))] if isinstance(message, Inquire | Share | SharePart) else []

    def take(self) -> list[tuple[Origin, Message]]:
        """Return what was kept, in the order in which it came; it is the caller's now."""
        kept, self._kept = self._kept, {}
        return list(kept.values())

    def known(self, origin: Origin, question: Inquire) -> set[int]:
        """Return which of the requests that a worker asks after are kept; its connection may be a new one."""
        keys = [(question.member, request) for request in question.requests]
        found = [key for key in keys if key in self._kept]
        for key in found:
            self._kept[key] = origin, self._kept[key][1]
        return {request for _, request in found}

    def __len__(self) -> int:
        return len(self._kept)


def not_yet(request: int, unknown: Iterable[int] = ()) -> Waiting:
    """Return the answer to a question that comes early; ``unknown`` requests are to be sent again now."""
    return Waiting(request, tuple(unknown), NOT_YET, ())


def _sender(origin: Origin, message: Message) -> int | Origin:
    return getattr(message, "member", 0) or origin
