"""ChunkState: everything a server knows about one chunk, and the small records that hang off it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ps.protocol.layout import Chunk
from ps.xp import HostArray


class Lease(Protocol):
    """Somebody may still read the weights, until ``done`` is true."""

    @property
    def done(self) -> bool: ...


@dataclass(slots=True)
class Seat:
    """A live worker as a server sees it.

    ``start`` is the first clock in which its contribution is waited for; None while it takes no part (it has not
    begun, or stands in a barrier). ``fresh`` until it has presented itself.
    """

    member: int
    rank: int
    start: int | None
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Contribution:
    """One worker's gradient for one chunk at one clock; ``gradient`` is None when it skipped the step."""

    member: int
    rank: int
    clock: int
    version: int
    examples: float
    scale: float
    gradient: HostArray | None


@dataclass(slots=True)
class Waiter:
    """A request that is answered later: with weights when ``pull``, else with a mere Pushed.

    ``clock`` is the number of steps that must be in the weights, in the mode's sense of that.
    """

    origin: bytes
    member: int
    request: int
    clock: int
    pull: bool
    since: float
    staleness: int = 0


@dataclass(slots=True)
class ChunkState:
    """One chunk: its weights and optimizer state, and who has contributed and who waits."""

    chunk: Chunk
    weights: HostArray
    slots: dict[str, HostArray]
    version: int = 0
    """Number of clocks closed (sync) or updates applied (async, ssp)."""
    updates: int = 0
    """Number of optimizer steps taken."""
    filled: bool = False
    done: dict[int, int] = field(default_factory=dict)
    """Live member -> number of its clocks that are counted; the whole memory of what was received."""
    pending: dict[int, Contribution] = field(default_factory=dict)
    """Member -> contribution to the clock being collected."""
    waiters: list[Waiter] = field(default_factory=list)
    holds: dict[int, int] = field(default_factory=dict)
    """Member -> clock that must not be closed before the member has the weights of its beginning."""
    leases: list[Lease] = field(default_factory=list)
    aggregate: HostArray | None = None
    """Clipping by global norm: the combined gradient, which waits for its Scale."""
    squares: float = 0.0
    """The squared L2 norm of ``aggregate``."""
    scalers: set[int] = field(default_factory=set)
    """Members that were told ``squares`` and will send the Scale."""

    def forget(self, member: int) -> None:
        """Drop what is remembered of a member that is gone; what it contributed counts.

        When the last that could send a Scale is gone, the aggregate it was for is dropped too.
        """
        self.done.pop(member, None)
        self.holds.pop(member, None)
        self.scalers.discard(member)
        if not self.scalers:
            self.aggregate = None
        self.waiters = [waiter for waiter in self.waiters if waiter.member != member]

    def own(self) -> None:
        """Make the weights safe to change: if a reader may still hold them, go on with a copy."""
        if any(not lease.done for lease in self.leases):
            self.weights = self.weights.copy()
        self.leases.clear()
