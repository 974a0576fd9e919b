"""Ledger: which contributions count in the round under way, and how far each server is with it. Pure.

This is two-phase commit (Gray 1978): the scheduler coordinates, servers are the participants, a round's version is
the transaction. *Prepare*: every server combines the same entries and keeps the result on disk; until all are
``prepared`` the attempt can be given up by beginning the next one. *Publish*: once the scheduler has saved that all
were, there is no way back: whoever comes back from the dead is told to publish what it finds prepared, until all show
the next version.

There are no votes and no acknowledgements, only states. The scheduler says what it wants of every server and goes on
saying it until the server's RoundStatus shows it, so that lost messages, and deaths on either side, need no cases of
their own. ``measure`` comes before prepare where an aggregator makes weights of the distances between contributions,
and ``sum`` where they are masked: what takes the masks off is told once, and nothing of the attempt may be lost then.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any, TypeGuard

from ps.dataclass import dataclass
from ps.protocol.messages import RoundOrder, RoundStatus
from ps.protocol.messages.words import OrderPhase, ShardPhase
from ps.protocol.ranges import MOST_ENTRIES

REPEAT = 1.0
"""Seconds after which an order is said again."""

_KEPT = ("summed", "prepared")
Entry = tuple[int, float, float, float]


@dataclass(slots=True)
class ServerProgress:
    """What a server has shown, and what it was told since."""

    status: RoundStatus | None = None
    entries: int = 0
    phase: OrderPhase | None = None
    attempt: int = -1
    at: float = -1e9
    """When it was last told all that it had not shown."""


@dataclass(slots=True)
class Ledger:
    """The round after ``version``: its entries, and the phase up to which servers may go."""

    servers: int
    version: int = 0
    attempt: int = 1
    floor: int = 1
    phase: OrderPhase = "collect"
    entries: list[Entry] = field(default_factory=list)
    weights: tuple[float, ...] = ()
    factor: float = 1.0
    share: float = 1.0
    clip: float = 0.0
    noise: float = 0.0
    """With differential privacy: the norm that contributions are held to, and the deviation of the noise of their sum.
    """
    sequence: int = 0
    row: int = 0
    """Where noise is correlated: of which sequence this is which release."""
    unpaid: bool = False
    """Whether servers must not be told to prepare yet: they would draw noise of which no restart would know."""
    progress: dict[int, ServerProgress] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    """The tasks that have an entry."""
    counted: int = 0
    """How many entries are contributions, and not merely dropped."""

    def __post_init__(self) -> None:
        self.progress = {server: ServerProgress() for server in range(self.servers)}

    def enter(self, task: int, weight: float = 0.0, scale: float = 0.0, bound: float = 0.0) -> None:
        """Add an entry: without a weight, the task's contribution is dropped."""
        self.entries.append((task, weight, scale, bound))
        self.settled.add(task)
        self.counted += weight > 0

    def begin(self, floor: int) -> None:
        """Begin a new attempt at the round; tasks below ``floor`` are over."""
        self.attempt += 1
        self.floor, self.phase = floor, "collect"
        self.entries, self.weights, self.factor, self.share = [], (), 1.0, 1.0
        self.settled, self.counted = set(), 0

    def publish(self, floor: int) -> None:
        """All servers have published: go on with the next round."""
        self.version += 1
        self.begin(floor)

    def behind(self) -> list[int]:
        """Return the servers that have not shown all that they were to do."""
        found = self.progress.items()
        return [s for s, p in found if p.attempt != self.attempt or not self._satisfied(p.status)]

    def order(self, server: int, now: float) -> RoundOrder | None:
        """Return what a server is to be told now, if anything."""
        if self.unpaid and self.phase == "prepare":
            return None
        progress = self.progress[server]
        if progress.attempt == self.attempt and self._satisfied(progress.status):
            return None
        known, fresh = self.folded(server), progress.attempt == self.attempt and now - progress.at < REPEAT
        if fresh and progress.phase == self.phase and progress.entries >= len(self.entries):
            return None
        if fresh:
            known = max(known, progress.entries)  # what was told just now is on its way
        else:
            progress.at = now
        part = tuple(self.entries[known : known + MOST_ENTRIES])
        progress.attempt, progress.phase, progress.entries = self.attempt, self.phase, known + len(part)
        return RoundOrder(
            self.version,
            self.attempt,
            self.floor,
            self.phase,
            known,
            part,
            len(self.entries),
            self.weights,
            self.factor,
            self.share,
            self.clip,
            self.noise,
            self.sequence,
            self.row,
        )

    def _is_here(self, status: RoundStatus | None) -> TypeGuard[RoundStatus]:
        """Whether what a server has shown is of this attempt."""
        return status is not None and (status.version, status.attempt) == (self.version, self.attempt)

    def _satisfied(self, status: RoundStatus | None) -> bool:
        if not self._is_here(status):
            return False
        if self.phase == "collect":
            return status.folded >= len(self.entries)
        return (self.phase, status.phase) in (("sum", "summed"), ("prepare", "prepared"))

    def is_kept(self, server: int) -> bool:
        """Whether a server has shown that it keeps what it has counted of this attempt, so that it may die."""
        status = self.progress[server].status
        return self._is_here(status) and status.phase in _KEPT and status.durable

    def folded(self, server: int) -> int:
        """Return how many entries a server has shown to have counted."""
        status = self.progress[server].status
        return status.folded if self._is_here(status) else 0

    def lacks(self, server: int, status: RoundStatus) -> str:
        """Return why an attempt cannot go on with what a server has counted of it, or nothing."""
        if not self._is_here(status):
            return ""
        if status.phase == "mismatch":
            return f"the sum on server {server} is none: a client used another seed, round, codec or mask"
        if status.phase == "broken" or (status.phase not in _KEPT and status.folded < self.folded(server)):
            return f"server {server} has lost contributions, or keys of noise"
        return ""

    @property
    def survivors(self) -> list[int]:
        """The tasks whose contributions count."""
        return [task for task, weight, _, _ in self.entries if weight > 0]

    def contradiction(self, server: int, status: RoundStatus) -> str:
        """Return why rounds cannot go on if this is where a server stands, or nothing: it is where it can stand.

        It may be one version ahead while that is published; what it had prepared it must not have lost then.
        """
        if status.version not in (self.version, self.version + 1) or status.phase == "empty":
            return f"server {server} has come back without its part of the model; give servers a --state file"
        if status.version > self.version and self.phase != "publish":
            return f"server {server} has published a round of which this scheduler's --state file does not know"
        if self.phase == "publish" and self.lacks(server, status):
            return f"server {server} has lost what it had prepared for round {self.version}"
        return ""

    def heard(self, server: int, status: RoundStatus) -> None:
        """Note how far a server is."""
        self.progress[server].status = status

    def lost(self, server: int) -> None:
        """A server is gone: whoever takes its place is to be told everything."""
        self.progress[server] = ServerProgress()

    def all_are(self, phase: ShardPhase) -> bool:
        """Whether every server is in this phase of the attempt."""
        statuses = [progress.status for progress in self.progress.values()]
        return all(self._is_here(status) and status.phase == phase for status in statuses)

    @property
    def published(self) -> bool:
        """Whether every server has published the round."""
        statuses = [progress.status for progress in self.progress.values()]
        return all(s is not None and s.version == self.version + 1 for s in statuses)

    def dump(self) -> dict[str, Any]:
        """Return the ledger as plain values."""
        return {
            "version": self.version,
            "attempt": self.attempt,
            "floor": self.floor,
            "phase": self.phase,
            "entries": [list(entry) for entry in self.entries],
            "weights": list(self.weights),
            "factor": self.factor,
            "share": self.share,
            "clip": self.clip,
            "noise": self.noise,
            "sequence": self.sequence,
            "row": self.row,
        }

    @staticmethod
    def load(servers: int, values: dict[str, Any]) -> Ledger:
        """Return what ``dump`` wrote; the servers are asked anew where they are."""
        ledger = Ledger(servers, values["version"], values["attempt"], values["floor"], values["phase"])
        for task, weight, scale, bound in values["entries"]:
            ledger.enter(task, weight, scale, bound)
        ledger.weights, ledger.factor, ledger.share = tuple(values["weights"]), values["factor"], values["share"]
        ledger.clip, ledger.noise = values["clip"], values["noise"]
        ledger.sequence, ledger.row = values["sequence"], values["row"]
        return ledger
