"""FederatedConnection: a client's talk with the scheduler about tasks, and with the servers about weights and deltas.

Whatever is lost on the way is said again, an upload goes on where it broke off, and a server that comes back as another
process is connected to anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from ps.errors import BadMessage, PeerLost, ServerLost, ServersMoved
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import (
    Assign,
    Decline,
    Finished,
    Message,
    Ok,
    Poll,
    Pull,
    Resume,
    Submit,
    Submitted,
    Upload,
    Wait,
)
from ps.worker.batch import Batch
from ps.worker.exchange import Exchange
from ps.worker.seeding import seed
from ps.worker.session import Session
from ps.worker.store import Traffic
from ps.xp import HostArray

log = logging.getLogger("ps.worker")

Done = TypeVar("Done")

PULLS = 20
"""Times that all chunks are asked for until they are of one version, at most: new ones come out meanwhile."""
LATE, RESUME, SPARE = "late", "resume", "spare"
"""Verdicts: after its round; a server lost its part; the round was full without it, as is planned for."""


class FederatedConnection:
    """One client's way to the scheduler and the servers."""

    def __init__(self, session: Session, layout: Layout, traffic: Traffic) -> None:
        self._session = session
        self._layout = layout
        self.traffic = traffic
        self.chunks: tuple[Chunk, ...] = layout.chunks(session.job.servers, session.job.chunk_bytes)

    # The scheduler

    def poll(self, version: int, report: Mapping[str, Any]) -> Assign | Wait | Finished:
        """Offer this client for a round; return what it is to do."""
        answer = self._session.ask(
            lambda request, member: Poll(request, member, version, dict(report)), Message, "a round to take part in"
        )
        if not isinstance(answer, Assign | Wait | Finished):
            raise BadMessage(f"the scheduler answered {answer!r} to a Poll")
        return answer

    def submit(self, task: int, version: int, examples: float, steps: int, report: Mapping[str, Any]) -> str:
        """Say that a delta is uploaded; return the verdict, or ``resume`` when a server has lost its part of it."""
        return self._session.ask(
            lambda request, member: Submit(request, member, task, version, examples, steps, dict(report)),
            Submitted,
            "the verdict on this client's contribution",
        ).verdict

    def decline(self, task: int, why: str) -> None:
        """Give a task back."""
        self._session.ask(
            lambda request, member: Decline(request, member, task, why[:200]), Ok, "leave to give a task back"
        )

    # The servers

    def seed(self, values: HostArray) -> None:
        """Send the first values, one flat buffer, to the servers, until the scheduler notes that all have them."""
        session = self._session

        def work(exchange: Exchange) -> None:
            seed(exchange, session.member, session.job, self._layout, self.chunks, values)
            session.seeded()  # refused when a server was lost that had some of the values

        self._with_servers(work)

    def pull(self, version: int, into: HostArray) -> int:
        """Bring a flat buffer to the weights of ``version``, or a later one; return which. All chunks are of one."""
        return self._with_servers(lambda exchange: self._pull(exchange, version, into))

    def _pull(self, exchange: Exchange, version: int, into: HostArray) -> int:
        versions: dict[int, int] = {}
        wanted = list(self.chunks)
        for _ in range(PULLS):
            batch = Batch(f"version {version} of the model", into, versions)
            for chunk in wanted:
                make = partial(Pull, member=self._session.member, chunk=chunk.index, clock=version, aside=False)
                exchange.submit(batch, chunk.server, make, None, chunk.region)
            exchange.wait(batch)
            version = max(versions.values())
            wanted = [chunk for chunk in self.chunks if versions[chunk.index] < version]
            if not wanted:
                return version
        raise PeerLost(f"the model changed {PULLS} times while it was pulled; is the network that slow?")

    def deliver(self, task: int, round: int, frames: Mapping[int, HostArray]) -> bool:
        """Upload what the servers do not have yet; return whether it may still count."""
        return self._with_servers(lambda exchange: self._deliver(exchange, task, round, frames))

    def _deliver(self, exchange: Exchange, task: int, round: int, frames: Mapping[int, HostArray]) -> bool:
        member, rank = self._session.member, self._session.rank
        known = exchange.ask_all(partial(Resume, member=member, task=task), "what servers have of a delta").held
        missing = [chunk for chunk in self.chunks if chunk.index not in known]
        while missing:
            batch = Batch(f"task {task}")
            for chunk in missing:
                make = partial(Upload, member=member, task=task, round=round, rank=rank, chunk=chunk.index)
                exchange.submit(batch, chunk.server, make, frames[chunk.index], chunk.region)
            exchange.wait(batch)
            if batch.late:
                return False
            missing = [chunk for chunk in missing if chunk.index in batch.later]
            if missing:
                self._session.pause(max(batch.later.values()))
        return True

    def connect(self) -> None:
        """Connect to the servers, anew if one was replaced."""
        if self._session.moved:
            self._session.disconnect()
        if not self._session.connected:
            self._session.connect(self.traffic, self._layout.nbytes, seeding=False, viewing=False)

    def _with_servers(self, work: Callable[[Exchange], Done]) -> Done:
        """Do some work with the servers, from the beginning if one of them is replaced meanwhile."""
        while True:
            self.connect()
            try:
                return work(self._session.exchange)
            except (ServersMoved, ServerLost) as error:
                log.warning("%s; connecting anew", error)
                self._session.disconnect()
                self._session.pause(1.0)
