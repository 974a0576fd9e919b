"""Faults: what may go wrong in a simulated federation, and a vault whose process dies in the middle of its writing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ps.vault import Vault


class Killed(Exception):
    """A server's process died in the middle of something."""


class Fuse:
    """A vault that kills its server before or after one of its writes."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
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
        return self._vault.durable

    def load(self, name: str) -> Any:
        return self._vault.load(name)

    def keep(self, *args: Any) -> None:
        self._burn()
        self._vault.keep(*args)
        self._burn()

    def drop(self, name: str) -> None:
        self._burn()
        self._vault.drop(name)
        self._burn()


@dataclass
class Faults:
    """How many of each may happen; ``rate`` is how likely one is at any event."""

    losses: int = 0
    repeats: int = 0
    restarts: int = 0
    kills: int = 0
    rate: float = 0.02
