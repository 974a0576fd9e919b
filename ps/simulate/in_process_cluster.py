"""InProcessCluster: the real scheduler and servers of one job without sockets, wired together in this process."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from ps.config.job import JobConfig
from ps.config.values import LONGEST_WAIT
from ps.errors import BudgetSpent, PeerLost, Refused
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import (
    Error,
    Heartbeat,
    Hello,
    Init,
    InitChunk,
    InitDone,
    InitRequest,
    Leave,
    Message,
    RoundOrder,
    Unseal,
    Welcome,
)
from ps.protocol.messages.words import MemberRole
from ps.server.loan import SENT
from ps.server.scheduler.registrar import Registrar
from ps.server.scheduler.state import SchedulerState
from ps.server.send import SCHEDULER, Send
from ps.server.shard.federated_shard import FederatedShard
from ps.xp import HostArray

FOR_EVER = LONGEST_WAIT
"""Seconds: nobody is declared dead because virtual time has passed."""


class InProcessCluster:
    """Messages between scheduler and servers are delivered at once, in order; those to clients wait for ``answers``.

    Time is what the caller says it is. Raises PeerLost when the job fails, and
    BudgetSpent when rounds are left that the privacy budget does not pay for.
    """

    def __init__(self, explicit: Mapping[str, Any], layout: Layout, values: HostArray, now: float = 0.0) -> None:
        """``explicit``: the job's settings, mode federated. ``values``: the first weights, uint8, as laid out."""
        registrar = Registrar(draw=itertools.count(1).__next__)  # there are no strangers, and all runs are alike
        self._state = SchedulerState({"heartbeat_timeout": FOR_EVER, **explicit}, now, registrar)
        self._heard: list[tuple[int, Message]] = []
        self._nonce = 0
        self._servers: dict[int, FederatedShard] = {}
        self.job = JobConfig.from_dict({**self._state.explicit})
        self.layout = layout.with_controls() if self.job.specs.algorithm.build().control else layout
        self.chunks: tuple[Chunk, ...] = self.layout.cut(self.job)
        self._shards = []
        for rank in range(self.job.servers):
            member = self._join("server", rank, now)
            shard = self._servers[member] = FederatedShard(rank, self.job, self._state.key, member=member)
            self._shards.append(shard)
        self._first = (values, now)

    @property
    def job_id(self) -> str:
        """What this job is called."""
        return f"{self._state.key.job_id:x}"

    # The beginning

    def join(self, rank: int, now: float) -> int:
        """Seat client ``rank``; return its member id. The rounds begin when enough are there."""
        member = self._join("worker", rank, now)
        if self._first is not None and self._state.phase == "running":
            (values, _), self._first = self._first, None  # type: ignore[assignment]
            self._seed(member, values, now)
        return member

    def _join(self, role: MemberRole, rank: int, now: float) -> int:
        self._nonce += 1
        hello = Hello(0, self._nonce, role, rank, "here", 0, "", (), {})
        found = 0
        for send in self._state.receive(hello, now):
            if isinstance(send.message, Welcome):
                found = send.message.member
            elif isinstance(send.message, Error):
                raise Refused(send.message.text)
        return found

    def _seed(self, member: int, values: HostArray, now: float) -> None:
        """Give the servers their first values; control variates begin as 0."""
        packed = self.layout.pack()
        self._state.receive(InitRequest(1, member, packed), now)
        buffer = np.zeros(self.layout.nbytes, np.uint8)
        buffer[: values.size] = values
        for shard in self._shards:
            shard.receive(b"", Init(1, member, self.job.servers, self.job.chunk_bytes, packed), None, now)
        for chunk in self.chunks:
            part = buffer[chunk.offset : chunk.offset + chunk.nbytes]
            self._shards[chunk.server].receive(b"", InitChunk(1, member, chunk.index), part, now)
        self._deliver(self._state.receive(InitDone(2, member), now), now)
        self.tick(now)

    # Clients

    def leave(self, member: int, now: float) -> None:
        """A client goes in good order."""
        self._deliver(self._state.receive(Leave(0, member, {}), now), now)

    def tell(self, member: int, message: Message, now: float) -> None:
        """Give a client's message to the scheduler."""
        self._deliver(self._state.receive(message, now), now)

    def call(self, server: int, message: Message, payload: HostArray | None, now: float) -> Message:
        """Give a client's message to a server, which keeps its payload; return what it answers, without weights."""
        answer, *rest = self._shards[server].receive(b"", message, payload, now)
        if answer.loan is not None:
            answer.loan.tracker = SENT
        self._deliver(self._hear(rest, now), now)
        return answer.message

    def answers(self) -> list[tuple[int, Message]]:
        """Return what the scheduler has said to clients since the last call: (member, message), in order."""
        heard, self._heard = self._heard, []
        return heard

    # Looking

    @property
    def version(self) -> int:
        """How many rounds are published."""
        return self._shards[0].version

    @property
    def history(self) -> list[dict[str, Any]]:
        """One entry for each published round."""
        rounds = self._state.rounds
        return rounds.history if rounds else []

    def weights(self) -> HostArray:
        """Return a copy of the published weights: one flat buffer, uint8."""
        buffer = np.zeros(self.layout.nbytes, np.uint8)
        for shard in self._shards:
            for state in shard.chunks.values():
                chunk = state.chunk
                buffer[chunk.offset : chunk.offset + chunk.nbytes].view(chunk.dtype)[:] = state.weights
        return buffer

    def status(self) -> dict[str, Any]:
        """Return the rounds as ``psctl status`` shows them."""
        rounds = self._state.rounds
        return rounds.status() if rounds else {}

    # The time

    def tick(self, now: float) -> None:
        """Look at the deadlines."""
        for record in (*self._state.live("server"), *self._state.live("worker")[:1]):
            record.seen = now
        self._deliver(self._state.tick(now), now)

    def wake(self, now: float) -> float | None:
        """Return the time at which ``tick`` has something to do although nothing comes in, if ever."""
        rounds = self._state.rounds
        return rounds.wake(now) if rounds else None

    # Inside

    def _deliver(self, sends: list[Send], now: float) -> None:
        queue = deque(sends)
        while queue or self._saves(queue, now):
            send = queue.popleft()
            to = send.to if isinstance(send.to, int) else 0
            shard = self._servers.get(to)
            if shard is None:
                if to and not isinstance(send.message, Heartbeat):
                    self._heard.append((to, send.message))
            elif isinstance(send.message, RoundOrder | Unseal):
                queue.extend(self._hear(shard.order(send.message), now))
        if self._state.phase == "failed":
            raise PeerLost(self._state.reason)
        rounds = self._state.rounds
        if rounds is not None and rounds.privacy.cut_short:
            done, planned = rounds.version, rounds.job.rounds
            raise BudgetSpent(f"the privacy budget is spent, with {done} of {planned} rounds done. See: psctl privacy")

    def _saves(self, queue: deque[Send], now: float) -> bool:
        """Take what there is to be kept for kept, and queue what waited for that; return whether anything did.

        What takes the scheduler long takes no time here.
        """
        rounds = self._state.rounds
        queue.extend(rounds.saved(now) if rounds is not None else ())
        while not queue and rounds is not None and rounds.busy:
            queue.extend(self._state.tick(now))
        return bool(queue)

    def _hear(self, said: list[Send], now: float) -> list[Send]:
        """Let the scheduler hear what a server says to it; return what it says to that."""
        sends: list[Send] = []
        for send in said:
            if send.to == SCHEDULER:
                sends += self._state.receive(send.message, now, send.payload)
        return sends
