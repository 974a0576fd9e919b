"""MemberRecord: what the scheduler knows about one process, live or gone."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any, Final, Literal

from ps.dataclass import dataclass
from ps.protocol.fitting import printable
from ps.protocol.messages import Hello
from ps.protocol.messages.words import MemberRole

LIVE: Final = "live"
LEFT: Final = "left"
DEAD: Final = "dead"
Liveness = Literal["live", "left", "dead"]
MAX_DEATHS = 1000
"""Deaths that are remembered, at most; the oldest are forgotten first."""
REVOKED = "its key was revoked"
"""Why one is dead that is let in no more."""


@dataclass(slots=True)
class MemberRecord:
    """One process.

    ``number``: how many had joined when it had; ``mark``: which process ``pid`` means, see ``ps.protocol.pid``;
    ``here``: it joined from an address of our host; ``initial``: it takes part from clock 0; ``has_model``: its init
    was answered; ``seen``: when it was last heard (monotonic); in the future for one that is still to find a restarted
    scheduler.
    """

    member: int
    nonce: int
    role: MemberRole
    rank: int
    host: str
    pid: int
    addresses: tuple[str, ...]
    mark: str = ""
    here: bool = False
    number: int = 0
    initial: bool = False
    has_model: bool = False
    state: Liveness = LIVE
    why: str = ""
    barriers: int | None = None
    """Of one that took the place of another: how many the former one had met the others in."""
    in_sync: bool = False
    """Of a standby: whether it has all that its server has, which answers nobody without it."""
    key: str = ""
    """The CURVE key that it came with, in hexadecimal; nothing without keys."""
    seen: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(hello: Hello, member: int, number: int, rank: int, here: bool, now: float) -> MemberRecord:
        """Return the record of a process that joins. Its host is shown to people; nobody connects to a worker."""
        addresses = hello.addresses if hello.role == "server" else ()
        about = printable(hello.host), hello.pid, addresses, hello.mark
        return MemberRecord(member, hello.nonce, hello.role, rank, *about, here, number, seen=now)

    @property
    def place(self) -> str:
        """Host and process id, for people."""
        return f"{self.host}, pid {self.pid}"

    @property
    def has_finished(self) -> bool:
        """Whether it left of its own accord: nobody needs to take over from it."""
        return self.state == LEFT and not self.report.get("terminated")

    def __str__(self) -> str:
        return f"{self.role} {self.rank} ({self.place})"

    @property
    def obituary(self) -> str:
        """What it is told when it was taken for dead."""
        if self.why == REVOKED:
            return f"{self} was cut off: {self.why}"
        return (
            f"{self} was declared dead ({self.why}): it was stopped, or its host or its link was down for longer than "
            f"--heartbeat-timeout. The others went on without it. Start it anew to rejoin"
        )

    def note_death(self, deaths: list[dict[str, Any]]) -> None:
        """Add this one's death to those that are remembered."""
        clock = self.report.get("clock", 0)
        deaths.append({"role": self.role, "rank": self.rank, "why": self.why, "clock": clock})
        del deaths[:-MAX_DEATHS]

    def dump(self) -> dict[str, Any]:
        """Return the record as plain values, without what only this run of the scheduler means."""
        return {name: getattr(self, name) for name in _KEPT}

    @staticmethod
    def load(values: dict[str, Any], seen: float) -> MemberRecord:
        """Return the record that ``dump`` wrote, as if it were heard at ``seen``."""
        return MemberRecord(**{**values, "addresses": tuple(values["addresses"]), "seen": seen})


_KEPT = tuple(f.name for f in fields(MemberRecord) if f.name != "seen")
