"""Crew: who shares a step, and which part of its examples is this worker's; the servers say it, see ``shard.crew``."""

from __future__ import annotations

from functools import partial

from ps.dataclass import dataclass
from ps.protocol.messages import Contributors, ContributorsRequest
from ps.worker.conversation import Call, Calls, Conversation
from ps.worker.participation import Participation


@dataclass(frozen=True, slots=True)
class StepShare:
    """One worker's share of the step at ``clock``: it is number ``place`` of the ``of`` that share it; -1: it has none.

    ``contributors`` gave gradients of so many ``examples`` for the step before; 0: not known.
    """

    clock: int
    place: int
    of: int
    contributors: int = 0
    examples: float = 0.0

    def part(self, count: int) -> tuple[int, int]:
        """Return the first of ``count`` examples of the step that are this worker's, and the first that are not."""
        if self.place < 0 or not self.of:
            return 0, 0
        return self.place * count // self.of, (self.place + 1) * count // self.of


def ask_share(part: Participation, rank: int) -> Conversation[StepShare]:
    """Return this worker's share of its next step."""
    clock, chunk = part.clock, part.chunks[0]
    make = partial(ContributorsRequest, member=part.member, chunk=chunk.index, clock=clock)
    answers = yield Calls(f"word of who shares clock {clock}", [Call(chunk.server, make, None, chunk.region)])
    [answer] = [answer for answer in answers if isinstance(answer, Contributors)]
    ranks = answer.ranks if answer.clock == clock else ()
    place = ranks.index(rank) if rank in ranks else -1
    return StepShare(clock, place, len(ranks), answer.contributors, answer.examples)
