"""Last look: the final weights go to those who follow the model when its job ends, for as long as they are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from ps.server.send import Send

MOST = 64 << 20
"""Bytes that are on their way at a time, unless a chunk is larger."""
LONGEST = 2.0
"""Seconds without anything being read after which no more is sent; a connection that has ended is not waited for."""
NAP = 0.002


def send_last(sends: Iterable[Send], perform: Callable[[list[Send]], None]) -> None:
    """Send the final weights; return when all have left, or are not read."""
    coming, under_way, deadline = iter(sends), list[Send](), time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        left = [send for send in under_way if send.loan is not None and not send.loan.done]
        if len(left) < len(under_way):
            deadline = time.monotonic() + LONGEST
        if sum(_nbytes(send) for send in left) < MOST and (more := next(coming, None)) is not None:
            perform([more])
            left.append(more)
        elif not left:
            return
        else:
            time.sleep(NAP)
        under_way = left


def _nbytes(send: Send) -> int:
    return send.loan.weights.nbytes if send.loan is not None else 0
