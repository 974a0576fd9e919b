"""LocalStates: what the clients of one process keep from task to task, settled once a task's verdict is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace

import numpy as np

from ps.compress import Key, Uplink
from ps.dataclass import dataclass
from ps.protocol.layout import Chunk
from ps.simulate.task import TrainingTask
from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class LocalState:
    """One client's own: its control variate, its local optimizer's state after ``updates``, what it did not send yet.

    ``unsent`` is compression's memory of each chunk, which changes in place.
    """

    own: HostArray | None = None
    optimizer: dict[str, HostArray] = field(default_factory=dict)
    updates: int = 0
    unsent: dict[int, dict[str, HostArray]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Proposal:
    client: int
    kept: LocalState
    sent: tuple[tuple[Key, HostArray], ...]


class LocalStates:
    """Clients that never took part have nothing here; tasks are remembered until they are settled."""

    def __init__(self, uplink: Uplink) -> None:
        self._uplink = uplink
        self._plain = uplink.spec.name == "none"
        self._kept: dict[int, LocalState] = {}
        self._proposals: dict[int, _Proposal] = {}

    def of(self, client: int) -> LocalState:
        """Return what a client keeps."""
        return self._kept.get(client) or LocalState()

    def send(
        self, task: TrainingTask, chunks: Sequence[Chunk], parts: Sequence[HostArray], learnt: LocalState, seed: int
    ) -> tuple[HostArray, ...]:
        """Return the frames of a task's delta, cut into ``parts``; ``learnt`` is what ``settle`` keeps."""
        frames, sent = [], []
        for chunk, part in zip(chunks, parts, strict=True):
            if self._plain or not chunk.compressible:
                frames.append(part.view(np.uint8))
                continue
            state = learnt.unsent.get(chunk.index)
            if state is None:
                state = learnt.unsent[chunk.index] = self._uplink.init(part)
            key = Key(seed, task.round, chunk.index, task.client)
            frames.append(self._uplink.encode(part, state, key))
            sent.append((key, frames[-1]))
        self._proposals[task.ticket] = _Proposal(task.client, learnt, tuple(sent))
        return tuple(frames)

    def forget(self, ticket: int) -> None:
        """Forget a task whose client keeps nothing of it."""
        self._proposals.pop(ticket, None)

    def settle(self, ticket: int, accepted: bool) -> None:
        """Say what became of a task. If it does not count, its client's control variate stays as it was, and what it
        sent is to be sent again; its optimizer has taken the steps all the same."""
        proposal = self._proposals.pop(ticket, None)
        if proposal is None:
            return
        if accepted:
            self._kept[proposal.client] = proposal.kept
            return
        unsent = proposal.kept.unsent
        for key, frame in proposal.sent:
            if "residual" in unsent[key.chunk]:
                self._uplink.give_back(frame, unsent[key.chunk], key)
        self._kept[proposal.client] = replace(proposal.kept, own=self.of(proposal.client).own)
