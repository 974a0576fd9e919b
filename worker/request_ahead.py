"""RequestAhead: a request to the scheduler that is not waited for yet; sent again where it is looked at in vain."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable

from ps.protocol.codec import encode
from ps.protocol.messages import Message
from ps.worker.scheduler_client import SchedulerClient

RETRY = 2.0
"""Seconds after which it is sent again."""


class RequestAhead:
    """One request, from any one thread."""

    def __init__(self, client: SchedulerClient, make: Callable[[int, int], Message]) -> None:
        """``make`` takes the request's number and the member's id."""
        self._client = client
        self._make = make
        self._number = client.number()
        self._answers: queue.Queue[Message] = queue.Queue()
        client.answers[self._number] = self._answers
        self._say()

    def _say(self) -> None:
        self._sent = time.monotonic()
        if member := self._client.member:
            self._client.send(member, encode(self._make(self._number, member)))

    def look(self, wait: float = 0.0) -> Message | None:
        """Return the answer, if it is there within so many seconds."""
        if time.monotonic() - self._sent >= RETRY:
            self._say()
        try:
            return self._answers.get(timeout=wait)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Have an answer that comes be ignored."""
        self._client.answers.pop(self._number, None)
