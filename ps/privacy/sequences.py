"""Sequences: how many releases each sequence of correlated noise had, and who may be in the next one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Sequences:
    """One sequence for good where noise is independent (``separation`` 0): then nobody is left out."""

    def __init__(self, separation: int, participations: int) -> None:
        """A client is in releases whose numbers differ by ``separation``, and in ``participations`` of a sequence at
        most; 0: in any number."""
        self._separation, self._most = separation, participations
        self._ended: list[int] = []
        self.rows = 0
        """Releases of the sequence that goes on."""
        self._last: dict[int, tuple[int, int]] = {}
        """Client -> (the last of them that it was in, in how many)."""

    @property
    def number(self) -> int:
        """How many sequences have ended."""
        return len(self._ended)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The releases of each sequence, those that have ended first."""
        return (*self._ended, self.rows)

    def admits(self, client: int) -> bool:
        """Whether a client may be in the next release."""
        last, times = self._last.get(client, (-self._separation, 0))
        return self.rows - last >= self._separation and (times < self._most or not self._most)

    def release(self, clients: Iterable[int]) -> None:
        """One more release, with these clients. RuntimeError, and nothing changed, if one of them may not be in it."""
        found = list(clients)
        if wrong := [client for client in found if not self.admits(client)]:
            raise RuntimeError(f"client {wrong[0]} is in two releases that are too close together, or in too many")
        if self._separation:
            for client in found:
                self._last[client] = self.rows, self._last.get(client, (0, 0))[1] + 1
        self.rows += 1

    def end(self) -> None:
        """The keys of the noise are lost: the next release is the first of a new sequence."""
        if self._separation and self.rows:
            self._ended.append(self.rows)
            self.rows = 0
            self._last.clear()

    def dump(self) -> dict[str, Any]:
        """Return all as plain values."""
        return {"ended": self._ended, "rows": self.rows, "last": [[c, *times] for c, times in self._last.items()]}

    def load(self, values: dict[str, Any]) -> None:
        """Take what ``dump`` returned. ValueError for what cannot have been."""
        ended, rows = [int(rows) for rows in values["ended"]], int(values["rows"])
        if rows < 0 or any(each <= 0 for each in ended):
            raise ValueError(f"sequences of {ended} and {rows} releases")
        self._ended, self.rows = ended, rows
        self._last = {int(client): (int(last), int(times)) for client, last, times in values["last"]}
