"""Readiness: how a launcher learns the address of the scheduler that it has started."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

from ps.errors import ConnectTimeout

READY = "PS_READY_FD"
"""Names the descriptor into which a process writes its address, once it listens there."""
NAP = 0.03


def await_address(ready: int, timeout: float, tick: Callable[[], bool]) -> str | None:
    """Return the line that a process writes into a pipe; None when ``tick`` says that the run is to end.

    Raises ConnectTimeout.
    """
    deadline = time.monotonic() + timeout
    text, is_open = b"", True
    while not tick():
        if time.monotonic() > deadline:
            raise ConnectTimeout(f"the scheduler was not ready after {timeout:g} s; is the host busy?")
        if is_open and select.select([ready], [], [], NAP)[0]:
            data = os.read(ready, 4096)
            text, is_open = text + data, bool(data)
            if b"\n" in text:
                return text.split(b"\n")[0].decode(errors="replace").strip()
        elif not is_open:
            time.sleep(NAP)
    return None
