"""Durability: whether each server's part of the model would outlive the server. Yes, no, or not heard yet. Pure.

Only a heard no ends a job when a server goes: one that was killed before it could say anything may have it all on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Known = dict[int, bool]


class Durability:
    """What servers have said last about their parts, and which of them have yet to say that they have theirs."""

    def __init__(self, servers: int) -> None:
        self._durable: Known = {}
        self._gone: set[int] = set()
        """Servers that went and whose successors have not said yet what they came back with."""
        self.unheard = set(range(servers))
        """Servers that have not said in this life of theirs, and of the scheduler, that they have their part."""

    @property
    def durable(self) -> list[int]:
        """The servers whose parts would outlive them, as they have said last."""
        return sorted(server for server, durable in self._durable.items() if durable)

    def heard(self, server: int, durable: bool) -> bool:
        """A server has its part of the model; return whether a restarted scheduler must know of it."""
        news = self._durable.get(server) is not durable or server in self._gone
        self._durable[server] = durable
        self._gone.discard(server)
        self.unheard.discard(server)
        return news

    def has_lost(self, server: int) -> bool:
        """Whether a server that has no values is one that had them, and not one whose word from before them is late."""
        return server in self._gone or self._durable.get(server, False)

    def lost(self, server: int) -> bool:
        """A server is gone; return whether its part of the model is gone with it for sure."""
        self._gone.add(server)
        self.unheard.add(server)
        return self._durable.get(server) is False

    def dump(self) -> dict[str, Any]:
        """Return what was heard as plain values."""
        return {"durable": [[server, durable] for server, durable in self._durable.items()], "gone": sorted(self._gone)}

    def load(self, values: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned; the servers are to be heard anew."""
        self._durable = dict(values["durable"])
        self._gone = set(values["gone"])
