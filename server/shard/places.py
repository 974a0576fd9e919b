"""Places: what a server does so that the worker of a pipeline can be replaced by another one.

All of its workers have a say in each chunk's clock: the one whose layers a chunk is of gives its gradient, the others
say Skip. Where a worker may be replaced they say so only when all servers have told them that they hold the gradients
of *all* chunks (HeldRequest). So when one is gone, either nothing of the clock was applied anywhere, and it is computed
again from the same weights, or nothing is missing but words. Whoever takes the place (the view shows another worker
with its rank) is what the former one was here: what that one gave counts as given, and is not taken again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ps.dataclass import dataclass
from ps.errors import BadMessage
from ps.optim.group import Group
from ps.protocol.layout import Chunk
from ps.protocol.membership import Peer
from ps.protocol.messages import Held, HeldRequest, Keep, Kept, Ok, Recall
from ps.protocol.ranges import MOST_STEPS
from ps.server.loan import Loan
from ps.server.send import Origin, Send
from ps.server.shard.chunk import ChunkState, Participant
from ps.xp import HostArray

KEPT = 2
"""States of a worker's buffers that are kept: before the clock under way, and after it."""


@dataclass(slots=True)
class Asker:
    """A worker that waits until all gradients of a clock are here; ``missing``: the chunks without theirs."""

    origin: Origin
    member: int
    request: int
    clock: int
    missing: set[int]


class Places:
    """The workers of pipelines, by their ranks, and what is kept for their successors."""

    def __init__(
        self, participants: dict[int, Participant], chunks: Callable[[], Mapping[int, ChunkState]], places: int
    ) -> None:
        """``participants`` are the shard's own; ``chunks`` returns its chunks; ``places``: of a pipeline, how many."""
        self._participants = participants
        self._chunks = chunks
        self._places = places
        self._givers: dict[str, int] = {}
        """Group of a chunk -> the place of the worker that has its gradient."""
        self._askers: list[Asker] = []
        self._kept: dict[int, dict[int, HostArray]] = {}
        """Rank -> clock -> the buffers of its stages."""

    def succeed(self, workers: Mapping[int, Peer]) -> None:
        """Let workers that are new go on for those of their ranks that are gone."""
        gone = {p.rank: p for p in self._participants.values() if p.member not in workers}
        for member, peer in workers.items():
            former = gone.get(peer.rank)
            if former is None or member in self._participants:
                continue
            del self._participants[former.member]
            self._participants[member] = Participant(
                member, peer.rank, former.start, former.initial, former.fresh, heir=True
            )
            for chunk in self._chunks().values():
                chunk.succeed(former.member, member)
            self._askers = [asker for asker in self._askers if asker.member != former.member]

    def forget(self, participant: Participant) -> None:
        """Nobody goes on for a worker that is gone."""
        self._kept.pop(participant.rank, None)
        self._askers = [asker for asker in self._askers if asker.member != participant.member]

    def receive(
        self, origin: Origin, participant: Participant, message: HeldRequest | Keep | Recall, payload: Any
    ) -> Iterator[Send]:
        """Take what only workers say that may be replaced. Raises BadMessage."""
        match message:
            case HeldRequest():
                yield from self._ask(origin, participant, message)
            case Keep():
                yield self._keep(origin, participant, message, payload)
            case Recall():
                yield self._recall(origin, participant, message)

    # Whether a clock is whole

    def _ask(self, origin: Origin, participant: Participant, message: HeldRequest) -> Iterator[Send]:
        """Answer a worker at once if as many clocks are whole here as it asks for, or once they are."""
        self._askers = [a for a in self._askers if (a.member, a.request) != (message.member, message.request)]
        given = self._given(participant)
        missing = {index for index, clocks in given.items() if clocks < message.clock}
        if missing:
            self._askers.append(Asker(origin, message.member, message.request, message.clock, missing))
        else:
            yield Send(origin, Held(message.request, min(given.values(), default=MOST_STEPS), participant.heir))

    def _given(self, participant: Participant) -> dict[int, int]:
        """Return, of each chunk, of how many clocks the worker of this pipeline whose gradient counts has given it."""
        first = participant.rank - participant.rank % self._places
        members = {each.rank: member for member, each in self._participants.items()}
        return {
            index: chunk.done.get(members.get(first + self._giver(chunk.chunk), 0), 0)
            for index, chunk in self._chunks().items()
        }

    def _giver(self, chunk: Chunk) -> int:
        if chunk.group not in self._givers:
            self._givers[chunk.group] = Group.read(chunk.group).giver or 0  # a layout may say anything
        return self._givers[chunk.group]

    def given(self, participant: Participant, index: int, clocks: int) -> Iterator[Send]:
        """A worker has given a chunk's gradient, or its word, and done so many clocks; return whom that answers."""
        if not self._askers or participant.rank % self._places != self._giver(self._chunks()[index].chunk):
            return
        pipeline, waiting = participant.rank // self._places, []
        for asker in self._askers:
            rank = self._participants[asker.member].rank
            if rank // self._places == pipeline and clocks >= asker.clock:
                asker.missing.discard(index)
            if asker.missing:
                waiting.append(asker)
            else:
                yield Send(asker.origin, Held(asker.request, asker.clock, self._participants[asker.member].heir))
        self._askers = waiting

    def wants(self, participant: Participant) -> bool:
        """Whether somebody waits for gradients of this worker."""
        place, pipeline = participant.rank % self._places, participant.rank // self._places
        return any(
            self._participants[asker.member].rank // self._places == pipeline
            and any(self._giver(self._chunks()[index].chunk) == place for index in asker.missing)
            for asker in self._askers
        )

    def known(self, origin: Origin, member: int) -> dict[int, tuple[int, ...]]:
        """Return a worker's requests that are not answered yet, and the ranks of those that they wait for."""
        found = {}
        for asker in self._askers:
            if asker.member == member:
                asker.origin = origin  # its connection may be a new one
                rank = self._participants[member].rank
                first = rank - rank % self._places
                ranks = {first + self._giver(self._chunks()[index].chunk) for index in asker.missing}
                found[asker.request] = tuple(sorted(ranks))
        return found

    # Buffers

    def _keep(self, origin: Origin, participant: Participant, message: Keep, payload: Any) -> Send:
        """Keep what a worker's buffers are after a clock, and what they were before it."""
        kept = self._kept.setdefault(participant.rank, {})
        kept[message.clock] = np.frombuffer(payload, np.uint8).copy()
        for clock in sorted(kept)[:-KEPT]:
            del kept[clock]
        return Send(origin, Ok(message.request))

    def _recall(self, origin: Origin, participant: Participant, message: Recall) -> Send:
        """Return what was kept. Raises BadMessage when there is nothing of that clock."""
        found = self._kept.get(participant.rank, {}).get(message.clock)
        if found is None:
            raise BadMessage(
                f"no buffers of worker {participant.rank} after clock {message.clock} were kept: they are gone with it"
            )
        return Send(origin, Kept(message.request, message.clock), Loan(_chunk_of(found), found))


def _chunk_of(values: HostArray) -> Chunk:
    """Return bytes as if they were a chunk: that is what is lent."""
    return Chunk(0, 0, "int64", 0, values.size // 8, 0)
