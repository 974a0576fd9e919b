"""Modes decide *when* contributions are applied and answers released. One small file each, with ``build(job)``,
and one line in ``ps.config.mode``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol, cast

from ps.config.job import JobConfig
from ps.config.mode import MODES
from ps.server.shard.chunk import ChunkState, Contribution, Participant, Waiter

Participants = Mapping[int, Participant]


class Mode(Protocol):
    """Pure decisions about one chunk; nothing here has side effects."""

    def late(self, chunk: ChunkState, clock: int) -> bool:
        """Whether a push for ``clock`` comes after that clock was closed."""
        ...

    def ready(self, chunk: ChunkState, participants: Participants) -> list[Contribution] | None:
        """Return the contributions to apply now, in the order in which they are added, or None."""
        ...

    def advance_to(self, chunk: ChunkState, participants: Participants) -> int:
        """Return the version to go on with: a later one when nobody is left who takes part in those between."""
        ...

    def answered_until(self, chunk: ChunkState, participants: Participants) -> float:
        """Return the last clock for which requests may be answered."""
        ...

    def blockers(self, chunk: ChunkState, waiter: Waiter, participants: Participants) -> tuple[int, ...]:
        """Return the ranks a waiting request waits for."""
        ...

    def join_clock(self, chunk: ChunkState, participants: Participants) -> int:
        """Return the first clock in which a worker that comes now can take part."""
        ...

    def staleness(self, chunk: ChunkState, contribution: Contribution, participants: Participants) -> int:
        """Return the staleness of a contribution at the moment it is applied."""
        ...


def build(job: JobConfig) -> Mode:
    """Return the job's mode."""
    found = importlib.import_module(f"ps.server.modes.{MODES[job.mode].module}")
    return cast(Mode, found.build(job))
