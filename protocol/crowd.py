"""Crowd: which connections a listening process has, how many it has room for, and who has to go when there are more.

Everybody who connects has something to say, and says it at once. So of those that are too many, who has said nothing
goes first, and of these who came last: who was there before an attack is not touched by it.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST = 1 << 16
"""Connections at once, at most: each takes 24 KiB."""
SHARE = 0.7
"""The part of the files that a process may open that may be connections."""
OF_ONE_HOST = 0.5
"""The part of these that may be of one other host."""
MUTE = 10.0
"""Seconds in which a connection brings its first message, where there is a crowd."""


class Crowd:
    """Decides by who came, from where, and who was heard; ``most``: connections at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._mute: dict[str, dict[int, float]] = {}
        """Host -> connections that have brought no message yet, in the order in which they came, and when."""
        self._heard: dict[str, dict[int, float]] = {}
        """Those that have."""
        self._hosts: dict[int, str] = {}
        self._exempt: set[str] = set()
        """Hosts that may have all: this one."""

    def __len__(self) -> int:
        return len(self._hosts)

    @property
    def is_asked(self) -> bool:
        """Whether somebody has yet to be heard."""
        return any(self._mute.values())

    @property
    def is_crowded(self) -> bool:
        """Whether more than half of the room is taken."""
        return len(self._hosts) > self._most // 2

    def came(self, number: int, host: str, now: float, *, own: bool) -> list[int]:
        """Take a new connection, by its descriptor; return those that are to be cut, it may be one of them.

        ``host``: the address of the other end, nothing for a Unix socket; ``own``: it is this host.
        """
        self.went(number)
        self._hosts[number] = host
        self._mute.setdefault(host, {})[number] = now
        if own:
            self._exempt.add(host)
        cut = []
        if host not in self._exempt and self._count(host) > self._most * OF_ONE_HOST:
            cut.append(self._last(host))
        if len(self._hosts) > self._most:
            cut.append(self._last(max({*self._mute, *self._heard}, key=self._weight)))
        return cut

    def went(self, number: int) -> None:
        """A connection has ended, or is being cut."""
        host = self._hosts.pop(number, None)
        if host is None:
            return
        for kept in (self._mute, self._heard):
            if kept.get(host, {}).pop(number, None) is not None and not kept[host]:
                del kept[host]

    def spoke(self, numbers: Iterable[int]) -> None:
        """Note from which connections messages were taken."""
        for number in numbers:
            host = self._hosts.get(number)
            if host is not None and (since := self._mute.get(host, {}).pop(number, None)) is not None:
                self._heard.setdefault(host, {})[number] = since
                if not self._mute[host]:
                    del self._mute[host]

    def is_mute(self, number: int) -> bool:
        """Whether no message was ever taken from a connection."""
        return number in self._mute.get(self._hosts.get(number, ""), ())

    def mute(self, now: float) -> list[int]:
        """Return the connections to cut that have said nothing for too long: none while there is room."""
        if not self.is_crowded:
            return []
        late = [number for kept in self._mute.values() for number, since in kept.items() if now - since > MUTE]
        for number in late:
            self.went(number)
        return late

    def _count(self, host: str) -> int:
        return len(self._mute.get(host, ())) + len(self._heard.get(host, ()))

    def _weight(self, host: str) -> tuple[int, bool]:
        return self._count(host), host not in self._exempt

    def _last(self, host: str) -> int:
        number = next(reversed(self._mute.get(host) or self._heard[host]))
        self.went(number)
        return number


def room(limit: int) -> int:
    """Return how many connections a process may have that may open so many files."""
    return min(MOST, int(SHARE * limit))
