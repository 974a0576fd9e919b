"""PipelinePeers: a worker's lines to the others of its pipeline, and the waiting for what comes over them."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import zmq

from ps import sigterm
from ps.errors import PeerLost, ProtocolError
from ps.pipeline.arrays import ArrayKind
from ps.pipeline.runner import GRADIENT, TIED, Transfer
from ps.protocol.messages import CreditRequest, Neighbours, Rendezvous, SharedTransfer
from ps.worker.interrupt import HOLD
from ps.worker.pipeline.activation_compression import ActivationCompression
from ps.worker.pipeline.line import IncomingLine, OutgoingLine
from ps.worker.pipeline.line_sockets import LineSockets, Neighbour
from ps.worker.pipeline.packed_tree import TreePacker
from ps.worker.session import Session
from ps.worker.traffic import Traffic

log = logging.getLogger("ps.worker")

SLICE = 100
"""Milliseconds of one look at the sockets; then failures are looked for."""
HASTE = 0.02
"""Seconds after which another worker is asked what has come, by one that waits for nothing else."""
BACK = (GRADIENT, TIED)
"""What goes from later stages to earlier ones in a step; all else is on its way through the model, or is said of it."""
TELL = 10.0
"""Seconds between lines about a wait."""


class PipelinePeers:
    """Not to be used from two threads."""

    def __init__(self, session: Session, arrays: ArrayKind, traffic: Traffic) -> None:
        """Listen, and connect to the others once all are there. Raises PeerLost when they do not come."""
        self._session, self._traffic = session, traffic
        self._poller = zmq.Poller()
        self._sockets = LineSockets(session.context, session.process, session.rank, self._poller)
        self.unused: Callable[[str, int], int] = lambda kind, stage: 0
        """Returns how many transfers of a channel have been taken from here and were not worked with."""
        self._arrived: dict[int, list[Transfer]] = defaultdict(list)
        """What has come and was not taken, by the pass that it is of."""
        self._attend: Callable[[], None] = lambda: None
        self.arrivals = 0
        """How many transfers have come."""
        self.waiting: tuple[int, float] | None = None
        """The rank of whom this worker waits for, and since when (monotonic); None while it does not."""
        try:
            addresses = self._sockets.addresses
            session.serve(self._demand_all)
            found = session.ask(
                lambda request, member: Rendezvous(request, member, addresses),
                Neighbours,
                "the other workers of this pipeline to be there",
            )
            neighbours = [Neighbour(*line) for line in found.lines]
            session.watch(self._sockets.connect(neighbours, session.job.transport, session.member))
        except BaseException:
            self._sockets.close()
            raise
        finally:
            session.serve(lambda: None)
        codec = session.job.specs.compress_activations
        compressed = codec.name != "none"
        trees = TreePacker(arrays, ActivationCompression(codec, session.job.seed, session.rank) if compressed else None)
        self._members = {each.rank: each.member for each in neighbours}
        self._outgoing = {each.rank: OutgoingLine(session.member, trees) for each in neighbours}
        for rank, buffers in self._sockets.offered.items():
            self._outgoing[rank].share(buffers)
        self._incoming = {
            each.rank: IncomingLine(trees, partial(self._sockets.adopted, each.rank)) for each in neighbours
        }

    def _demand_all(self) -> None:
        """Raise PeerLost when somebody is gone before the pipeline was complete."""
        session = self._session
        first, here = session.rank - session.rank % session.job.places, {p.rank for p in session.peers("worker")}
        gone = [rank for rank in range(first, first + session.job.places) if rank not in here]
        if gone:
            raise PeerLost(
                f"worker {gone[0]} is gone, and this pipeline cannot begin without it. What went wrong there is in "
                f"its log"
            )

    def send(self, rank: int, number: int, transfer: Transfer, clock: int | None = None) -> None:
        """Have something sent that belongs to the pass with this number; it may be changed afterwards.

        With a ``clock`` the pass is the step after that, and what the job compresses is compressed.
        """
        self._outgoing[rank].put(number, transfer, clock)
        self._push(rank)

    def take(self, number: int) -> list[Transfer]:
        """Return what has come of a pass, and was not taken yet."""
        return self._arrived.pop(number, [])

    def peek(self, number: int) -> list[Transfer]:
        """Return what has come of a pass, which stays to be taken."""
        return list(self._arrived.get(number, ()))

    def turn(self, milliseconds: int = 0) -> None:
        """Take what is here, within so many milliseconds, and send what may be sent."""
        self._sockets.poll(milliseconds)
        for rank, message, payload in self._sockets.receive():
            line = self._incoming[rank]
            if isinstance(message, CreditRequest):
                if (credit := line.credit(self._session.member, self._unused, message.number)) is not None:
                    self._sockets.reply(rank, credit)
                continue
            self._traffic.bytes_down += (
                message.nbytes if isinstance(message, SharedTransfer) else memoryview(payload).nbytes
            )
            try:
                for number, transfer in line.receive(message, payload):
                    self.arrivals += 1
                    self._arrived[number].append(transfer)
            except ProtocolError as error:
                self._sockets.reject(rank, error)
                raise type(error)(f"worker {rank}: {error}") from None
        now = time.monotonic()
        for rank, credit in self._sockets.answers(lambda rank: self._outgoing[rank].begin_again()):
            self._outgoing[rank].credit(credit, now)
        for rank, outgoing in self._outgoing.items():
            self._push(rank)
            if (question := outgoing.ask(now)) is not None:
                self._sockets.send(rank, question)
            if (credit := self._incoming[rank].credit(self._session.member, self._unused)) is not None:
                self._sockets.reply(rank, credit)

    def _push(self, rank: int) -> None:
        line = self._outgoing[rank]
        while (entry := line.next()) is not None and self._sockets.send(rank, *entry):
            line.sent(time.monotonic())
            message, payload = entry
            size = message.nbytes if payload is None else payload.nbytes
            self._traffic.bytes_up += size
            self._traffic.passes["bytes_gradients" if message.kind in BACK else "bytes_activations"] += size

    def _unused(self, kind: str, stage: int) -> int:
        parked = sum((t.kind, t.stage) == (kind, stage) for arrived in self._arrived.values() for t in arrived)
        return parked + self.unused(kind, stage)

    @property
    def pollables(self) -> list[Any]:
        """What is ready to be read when another worker has said something."""
        return [sock for sock, _ in self._poller.sockets]

    def wake(self, pollables: Iterable[Any], attend: Callable[[], None]) -> None:
        """Call ``attend`` while waiting for others, at once when one of these is ready to be read: it reads them."""
        self._attend = attend
        for pollable in pollables:
            self._poller.register(pollable, zmq.POLLIN)

    def await_any(self, number: int, what: str, rank: int) -> None:
        """Return when something of a pass has come. ``what`` is waited for, of the worker of this rank.

        Raises PeerLost when that worker is gone.
        """
        self.wait(lambda: bool(self._arrived.get(number)), what, rank)

    def wait(self, ready: Callable[[], bool], what: str, rank: int) -> None:
        """Return when ``ready`` says so. ``what`` is waited for, of the worker of this rank. Raises as ``await_any``
        does."""
        began, told = time.monotonic(), 0.0
        self.waiting = rank, began
        try:
            while True:
                there = self.is_there(rank)  # before it is looked what it has sent last
                self.turn(0 if ready() else SLICE)
                self._attend()
                if ready():
                    return
                sigterm.check()
                HOLD.check()
                waited = time.monotonic() - began
                self._demand_there(rank, what, waited, there=there)
                if waited - told >= TELL:
                    told = waited
                    log.warning("waiting %.0f s for %s from worker %d", waited, what, rank)
        finally:
            self.waiting = None
            self._traffic.wait_s += time.monotonic() - began

    def is_there(self, rank: int) -> bool:
        """Whether another worker of this pipeline is in the job, as far as this one knows."""
        return any(peer.member == self._members[rank] for peer in self._session.peers("worker"))

    def _demand_there(self, rank: int, what: str, waited: float, *, there: bool) -> None:
        self._session.check()
        if not there:
            raise PeerLost(
                f"worker {rank} is gone, and {what} was to come from it: this pipeline cannot go on. What went wrong "
                f"there is in its log"
            )
        limit = self._session.job.start_timeout
        if waited > limit and self._session.silence > limit:
            raise PeerLost(
                f"waited {limit:g} s for {what} from worker {rank}, and the scheduler, which would know, is silent too"
            )

    def flush(self, seconds: float) -> None:
        """Return when everything has come where it is to go, or nobody is there for it, or after so many seconds."""
        until = time.monotonic() + seconds
        for rank, incoming in self._incoming.items():  # who waits for that would wait until this worker is gone
            if (credit := incoming.credit(self._session.member, self._unused, last=True)) is not None:
                self._sockets.reply(rank, credit)
        while time.monotonic() < until and any(
            not line.empty and self.is_there(rank) for rank, line in self._outgoing.items()
        ):
            for rank, line in self._outgoing.items():
                if (question := line.ask(time.monotonic(), soon=HASTE)) is not None:
                    self._sockets.send(rank, question)
            self.turn(SLICE // 10)

    def close(self) -> None:
        """Close everything; what was not sent is dropped."""
        self._sockets.close()
