"""Faults: what may go wrong in a simulated federation, and a state file whose process dies in mid-writing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ps.state_file import StateFile


class Killed(Exception):
    """A server's process died in the middle of something."""


class Fuse:
    """A state file that kills its server before or after one of its writes."""

    def __init__(self, state_file: StateFile) -> None:
        self._state_file = state_file
        self.left: int | None = None
        """Moments until it blows."""

    def _burn(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Killed

    @property
    def durable(self) -> bool:
        return self._state_file.durable

    @property
    def due(self) -> bool:
        return self._state_file.due

    def failing(self, name: str) -> bool:
        return self._state_file.failing(name)

    def load(self, name: str) -> Any:
        return self._state_file.load(name)

    def glance(self, name: str) -> Any:
        return self._state_file.glance(name)

    def reading(self, name: str) -> AbstractContextManager[None]:
        return self._state_file.reading(name)

    def keep(self, *args: Any) -> None:
        self._burn()
        self._state_file.keep(*args)
        self._burn()

    def drop(self, name: str) -> None:
        self._burn()
        self._state_file.drop(name)
        self._burn()


@dataclass
class Faults:
    """How many of each may happen; ``rate`` is how likely one is at any event."""

    losses: int = 0
    repeats: int = 0
    restarts: int = 0
    kills: int = 0
    rate: float = 0.02
