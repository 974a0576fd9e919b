"""Modes decide *when* contributions are applied and answers released. One small file each, and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from ps.config.job import JobConfig
from ps.server.chunk import ChunkState, Contribution, Seat, Waiter
from ps.server.modes.asynchronous import Async
from ps.server.modes.ssp import Ssp
from ps.server.modes.sync import Sync

Seats = Mapping[int, Seat]


class Mode(Protocol):
    """Pure decisions about one chunk; nothing here has side effects."""

    @property
    def lockstep(self) -> bool:
        """Whether all workers contribute to one clock at a time, the one that a chunk's version names."""
        ...

    def late(self, chunk: ChunkState, clock: int) -> bool:
        """Whether a push for ``clock`` comes after that clock was closed."""
        ...

    def due(self, chunk: ChunkState, seats: Seats) -> list[Contribution] | None:
        """Return the contributions to apply now, in the order in which they are added, or None."""
        ...

    def skip_to(self, chunk: ChunkState, seats: Seats) -> int:
        """Return the version to go on with: a later one when nobody is left who takes part in those between."""
        ...

    def free(self, chunk: ChunkState, waiter: Waiter, seats: Seats) -> bool:
        """Whether a waiting request may be answered."""
        ...

    def missing(self, chunk: ChunkState, waiter: Waiter, seats: Seats) -> tuple[int, ...]:
        """Return the ranks a waiting request waits for."""
        ...

    def entry(self, chunk: ChunkState, seats: Seats) -> int:
        """Return the first clock in which a worker that comes now can take part."""
        ...

    def staleness(self, chunk: ChunkState, contribution: Contribution, seats: Seats) -> int:
        """Return the staleness of a contribution at the moment it is applied."""
        ...


def build(job: JobConfig) -> Mode:
    """Return the job's mode."""
    return REGISTRY[job.mode](job)


REGISTRY: dict[str, Callable[[JobConfig], Mode]] = {
    "sync": lambda job: Sync(job.backup_workers),
    "async": lambda job: Async(),
    "ssp": lambda job: Ssp(job.staleness),
}
