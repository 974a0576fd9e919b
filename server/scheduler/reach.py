"""Reach: whether the addresses that servers are told to be at can be connected to from the scheduler's host.

Another host may have another way there, so nobody is refused for it: what is found is said, by name and with advice.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from ps.loopback import is_loopback
from ps.protocol.addresses import split_key
from ps.protocol.dial import Route, look
from ps.server.scheduler.member_record import MemberRecord

MOST = 64
"""Addresses that wait to be tried, at most; what comes more is not tried."""


class Reach:
    """Tries addresses one after the other in a thread, which ends when there are none left. Holds nobody up."""

    def __init__(self, say: Callable[[str], None], look: Callable[..., Route] = look) -> None:
        self._say, self._look = say, look
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, str]] = deque()
        self._works = False

    def try_out(self, record: MemberRecord) -> None:
        """Have a server's addresses be tried that are other hosts'; say it of each that nobody answers at."""
        if record.role != "server" or record.here:
            return
        for told in record.addresses:
            address = split_key(told)[0]
            if not address.startswith("tcp://") or is_loopback(urlsplit(address).hostname or ""):
                continue
            with self._lock:
                if len(self._waiting) >= MOST:
                    return
                self._waiting.append((f"server {record.rank}", address))
                if not self._works:
                    self._works = True
                    threading.Thread(target=self._work, name="reach", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._works = False
                    return
                who, address = self._waiting.popleft()
            way = self._look(address, probing=True)
            if way.trouble:
                self._say(
                    f"{who} at {address} cannot be reached from here: {way.trouble}. Unless workers share another "
                    f"network with it, start it with another --host, or --advertise where a port is forwarded"
                )
