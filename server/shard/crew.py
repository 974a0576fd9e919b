"""Crew: which workers share a chunk's clock between them, and what the clock before was made of. Pure.

Where a step is of a fixed number of examples each worker needs to know which part of them is its own, and all must
agree. So one server says it, that of a chunk all ask about, and says the same to all who ask about a clock: who took
part when the first asked. Who comes in later has no share of that clock; who is lost leaves its share out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ps.protocol.messages import Contributors, ContributorsRequest
from ps.server.shard.chunk import ChunkState, Contribution, Participant

MOST_NUMBER = 1e18
"""Examples of a clock that are counted, at most."""


def contributors(
    message: ContributorsRequest, chunk: ChunkState, participants: Mapping[int, Participant]
) -> Contributors:
    """Return who shares the clock that is collected; nobody where the one who asks is at another one."""
    clock = chunk.version
    if chunk.crew[0] != clock:
        here = (p.rank for p in participants.values() if p.start is not None and p.start <= clock)
        chunk.crew = clock, tuple(sorted(here))
    ranks = chunk.crew[1] if message.clock == clock else ()
    last, count, examples = chunk.tally
    known = (count, examples) if last == message.clock - 1 else (0, 0.0)
    return Contributors(message.request, clock, ranks, *known)


def counted(due: Iterable[Contribution]) -> tuple[int, float]:
    """Return how many contributions have a gradient, or took part in the step without one, and of how many examples."""
    given = [c.examples for c in due if c.gradient is not None or c.examples]
    return len(given), min(sum(given), MOST_NUMBER)
