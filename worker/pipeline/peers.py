"""PipelinePeers: a worker's lines to the others of its pipeline, and the waiting for what comes over them."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import zmq

from ps import sigterm
from ps.errors import PeerLost, ProtocolError
from ps.pipeline.arrays import ArrayKind
from ps.pipeline.runner import GRADIENT, PLAN, TIED, Transfer
from ps.protocol.messages import CreditRequest, Neighbours, Rendezvous, SharedTransfer
from ps.worker.interrupt import HOLD
from ps.worker.pipeline.activation_compression import ActivationCompression
from ps.worker.pipeline.line import IncomingLine, OutgoingLine
from ps.worker.pipeline.line_sockets import LineSockets, Neighbour
from ps.worker.pipeline.packed_tree import TreePacker
from ps.worker.session import Session
from ps.worker.traffic import Traffic

log = logging.getLogger("ps.worker")

CREW = "crew"
"""The key of a plan under which it says for whom it is."""
SLICE = 100
"""Milliseconds of one look at the sockets; then failures are looked for."""
HASTE = 0.02
"""Seconds after which another worker is asked what has come, by one that waits for nothing else."""
BACK = (GRADIENT, TIED)
"""What goes from later stages to earlier ones in a step; all else is on its way through the model, or is said of it."""
TELL = 5.0
"""Seconds between lines about a wait."""


class StageReplaced(Exception):
    """Another worker has taken the place of one that is gone: what is under way begins again."""


class PipelinePeers:
    """Not to be used from two threads."""

    def __init__(self, session: Session, arrays: ArrayKind, traffic: Traffic) -> None:
        """Listen, and connect to the others once all are there. Raises PeerLost when they do not come."""
        self._session, self._traffic = session, traffic
        self._poller = zmq.Poller()
        self.unused: Callable[[str, int], int] = _none
        """Returns how many transfers of a channel have been taken from here and were not worked with."""
        self._arrived: dict[int, list[tuple[int, Transfer]]] = defaultdict(list)
        """What has come and was not taken, by the pass that it is of, with the rank of whom it is from."""
        self._attend: Callable[[], None] = lambda: None
        self.arrivals = 0
        """How many transfers have come."""
        self.waiting: tuple[int, float, str] | None = None
        """The rank of whom this worker waits for, since when (monotonic), and for what; None while it does not."""
        self.recovers = True
        """Whether what is under way can be begun again when another worker has taken the place of one that is gone."""
        self.look: Callable[[], None] = lambda: None
        """Called now and then while this worker waits; it may raise."""
        self.members: dict[int, int] = {}
        """The ids of the others by rank, as of the last time that all met."""
        self._sockets = LineSockets(session.context, session.process, session.rank, self._poller, self._expects)
        self._oldest = 0
        self._outgoing: dict[int, OutgoingLine] = {}
        self._incoming: dict[int, IncomingLine] = {}
        codec = session.job.specs.compress_activations
        compressed = codec.name != "none"
        self._trees = TreePacker(
            arrays, ActivationCompression(codec, session.job.seed, session.rank) if compressed else None
        )
        try:
            self.meet()
        except BaseException:
            self._sockets.close()
            raise

    def meet(self) -> list[int]:
        """Find the others, once all are there; return the ranks of those that are new. Raises PeerLost."""
        session, addresses = self._session, self._sockets.addresses
        session.serve(self.demand_all)
        try:
            while True:
                found = session.ask(
                    lambda request, member: Rendezvous(request, member, addresses),
                    Neighbours,
                    "the other workers of this pipeline to be there",
                )
                neighbours = [Neighbour(*line) for line in found.lines]
                here = self._seats()
                if all(here.get(each.rank) == each.member for each in neighbours):
                    break
                time.sleep(SLICE / 1000)  # the view that shows the latest of them is under way
        finally:
            session.serve(lambda: None)
        session.watch(self._sockets.connect(neighbours, session.job.transport, session.member))
        new = [each.rank for each in neighbours if self.members.get(each.rank) != each.member]
        for number, arrived in self._arrived.items():
            self._arrived[number] = [(rank, transfer) for rank, transfer in arrived if rank not in new]
        for rank in new:
            self._outgoing[rank] = OutgoingLine(session.member, self._trees)
            if rank in self._sockets.offered:
                self._outgoing[rank].share(self._sockets.offered[rank])
            self._incoming[rank] = IncomingLine(self._trees, partial(self._sockets.adopted, rank))
        self.members = {each.rank: each.member for each in neighbours}
        session.exchange.wake(self.pollables)  # what others say, as that there is room, is heard in steps' ends too
        return new

    def _seats(self) -> dict[int, int]:
        """Return the ids of the job's workers by rank, as far as this one knows."""
        return {peer.rank: peer.member for peer in self._session.peers("worker")}

    def _expects(self) -> bool:
        """Whether others are to come to this worker's lines: not all have met, or one is gone, or another one."""
        here, met = self._seats(), self.members
        return not met or any(here.get(rank) != member for rank, member in met.items())

    @property
    def changed(self) -> bool:
        """Whether another worker has one of the places by now."""
        here = self._seats()
        return any(here.get(rank, member) != member for rank, member in self.members.items())

    def forget(self, number: int) -> None:
        """Drop what has come, or is to be sent, of passes before this one."""
        self._oldest = number
        for each in [each for each in self._arrived if 0 < each < number]:
            del self._arrived[each]
        for line in self._outgoing.values():
            line.forget(number)

    def demand_all(self) -> None:
        """Raise PeerLost when somebody is gone, and nobody is to take its place."""
        session = self._session
        here = self._seats()
        gone = [rank for rank in session.job.together_with(session.rank) if rank not in here]
        if gone:
            raise PeerLost(
                f"worker {gone[0]} is gone, and this pipeline cannot go on without it. What went wrong there is in "
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
        return [transfer for _, transfer in self._arrived.pop(number, [])]

    @property
    def crew(self) -> list[int]:
        """The ids of all workers of this pipeline, by rank, as of the last time that all met."""
        found = {**self.members, self._session.rank: self._session.member}
        return [found[rank] for rank in sorted(found)]

    def plan(self, number: int) -> int | None:
        """Return the next pass after this one whose plan has come, of those that this crew is to do."""
        crew = self.crew
        found = (
            each
            for each, arrived in self._arrived.items()
            if each > number and any(t.kind == PLAN and t.tree[CREW] == crew for _, t in arrived)
        )
        return min(found, default=None)

    def peek(self, number: int) -> list[Transfer]:
        """Return what has come of a pass, which stays to be taken."""
        return [transfer for _, transfer in self._arrived.get(number, ())]

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
                    if not 0 < number < self._oldest:
                        self._arrived[number].append((rank, transfer))
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

    @contextmanager
    def counting(self, unused: Callable[[str, int], int]) -> Iterator[None]:
        """Ask this, while a step lasts, how much of what was taken from here was not worked with."""
        self.unused = unused
        try:
            yield
        finally:
            self.unused = _none

    def _unused(self, kind: str, stage: int) -> int:
        parked = sum((t.kind, t.stage) == (kind, stage) for arrived in self._arrived.values() for _, t in arrived)
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

        Raises PeerLost when that worker is gone, and StageReplaced when another one has taken somebody's place.
        """
        self.wait(lambda: bool(self._arrived.get(number)), what, rank)

    def wait(self, ready: Callable[[], bool], what: str, rank: int) -> None:
        """Return when ``ready`` says so. ``what`` is waited for, of the worker of this rank. Raises as ``await_any``
        does."""
        began, told = time.monotonic(), 0.0
        self.waiting = rank, began, what
        try:
            while True:
                there = self.is_there(rank)  # before it is looked what it has sent last
                self.turn(0 if ready() else SLICE)
                self._attend()
                if ready():
                    return
                self.look()
                self.demand_same()
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

    def demand_same(self) -> None:
        """Raise StageReplaced if another worker has one of the places, where it is possible to begin again."""
        if self.recovers and self.changed:
            raise StageReplaced

    def is_there(self, rank: int) -> bool:
        """Whether another worker of this pipeline is in the job, as far as this one knows."""
        return any(peer.member == self.members[rank] for peer in self._session.peers("worker"))

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
        if self._session.connected:
            self._session.exchange.wake(())
        self._sockets.close()


def _none(kind: str, stage: int) -> int:
    """Nothing has come of a channel that was not worked with."""
    return 0
