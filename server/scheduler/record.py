"""MemberRecord: what the scheduler knows about one process, live or gone."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

LIVE, LEFT, DEAD = "live", "left", "dead"


@dataclass(slots=True)
class MemberRecord:
    """One process.

    ``initial``: it takes part from clock 0; ``has_model``: its init was answered; ``seen``: when it was last heard
    (monotonic).
    """

    member: int
    nonce: int
    role: str
    rank: int
    host: str
    pid: int
    addresses: tuple[str, ...]
    initial: bool = False
    has_model: bool = False
    state: str = LIVE
    why: str = ""
    seen: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Host and process id, for people."""
        return f"{self.host}, pid {self.pid}"

    def __str__(self) -> str:
        return f"{self.role} {self.rank} ({self.place})"

    def dump(self) -> dict[str, Any]:
        """Return the record as plain values, without what only this run of the scheduler means."""
        return {name: getattr(self, name) for name in _KEPT}

    @staticmethod
    def load(values: dict[str, Any], now: float) -> MemberRecord:
        """Return the record that ``dump`` wrote, as if it had just been heard."""
        return MemberRecord(**{**values, "addresses": tuple(values["addresses"]), "seen": now})


_KEPT = tuple(f.name for f in fields(MemberRecord) if f.name != "seen")
