"""Last look: the final weights go to those who follow the model when its job ends, for as long as they are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from ps.protocol.messages import Received
from ps.server.send import Origin, Send

MOST = 64 << 20
"""Bytes that are on their way at a time, unless a chunk is larger."""
MOST_CHUNKS = 500
"""Chunks that are on their way at a time: ZeroMQ drops what is beyond the high water of a socket."""
LONGEST = 2.0
"""Seconds without anything being read after which no more is sent."""
NAP = 0.002

Came: TypeAlias = Iterable[tuple[Origin, Any, Any]]
"""Messages: origin, message, payload."""


def send_last(sends: Iterable[Send], perform: Callable[[list[Send]], None], receive: Callable[[], Came]) -> None:
    """Send the final weights; return when those who follow have said that they have them, or do not read them.

    That they have left this process is not enough: what the system still has of them goes with a connection that ends
    before its other end is done. ``receive`` yields what has come meanwhile.
    """
    coming, deadline = iter(sends), time.monotonic() + LONGEST
    under_way: dict[tuple[Origin | int, int], Send] = {}
    went: set[Origin | int] = set()
    ahead = unsent = 0
    while time.monotonic() < deadline:
        for origin, message, _ in receive():
            if not isinstance(message, Received):
                continue
            here: list[tuple[Origin | int, int]] = [(origin, message.chunk)]
            if message.chunk < 0:
                went.add(origin)
                here = [key for key in under_way if key[0] == origin]
            for key in here:
                if (send := under_way.pop(key, None)) is not None:
                    ahead -= _nbytes(send)
                    deadline = time.monotonic() + LONGEST
        if len(under_way) < MOST_CHUNKS and ahead < MOST and (more := next(coming, None)) is not None:
            if more.to in went:
                continue
            perform([more])
            under_way[more.to, getattr(more.message, "chunk", 0)] = more
            ahead += _nbytes(more)
        elif under_way:
            known, unsent = unsent, sum(send.loan is not None and not send.loan.done for send in under_way.values())
            if unsent < known:  # it may be long until a chunk is there
                deadline = time.monotonic() + LONGEST
            time.sleep(NAP)
        else:
            return


def _nbytes(send: Send) -> int:
    return send.loan.weights.nbytes if send.loan is not None else 0
