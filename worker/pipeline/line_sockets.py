"""LineSockets: the sockets of a worker's lines to the others of its pipeline, and who has shown to be at which end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import zmq

from ps import descriptors
from ps.config.process import ProcessConfig
from ps.dataclass import dataclass
from ps.errors import BadMessage, ProtocolError, Unshared
from ps.keys.public_keys import PublicKeys
from ps.protocol.addresses import advertised, split_key
from ps.protocol.codec import decode, encode
from ps.protocol.descriptor_guard import DescriptorGuard
from ps.protocol.directory import PrivateDirectory
from ps.protocol.error_codes import refusal
from ps.protocol.guarded_context import security_of
from ps.protocol.inbox import Inbox
from ps.protocol.incoming import Incoming
from ps.protocol.messages import Credit, CreditRequest, Error, Introduce, Message, SharedTransfer, TransferPart
from ps.protocol.sockets import Socket, open_socket
from ps.protocol.transports import registry
from ps.protocol.transports.transport import Place
from ps.worker.pipeline.buffer_channels import BufferChannels
from ps.worker.pipeline.shared_buffers import OfferedBuffers
from ps.xp import HostArray

log = logging.getLogger("ps.worker")

AGAIN = 0.5
"""Seconds between two introductions on a line: who is not believed is told so again and again."""
PATIENCE = 1.0
"""Seconds for which the view may be under way that shows whose an unknown key is."""
BATCH = 64
"""Messages that are taken before anything else is looked after."""
CARRIED = ("ipc", "tcp")
"""The transports that workers offer each other, the faster first."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another worker of this pipeline. ``token`` is what this worker shows to it, ``its_token`` what it shows here."""

    rank: int
    member: int
    addresses: tuple[str, ...]
    token: int
    its_token: int


class LineSockets:
    """One socket that listens, and one to each other worker. It sends and receives; what comes means is others' to say.

    A token is known to the scheduler, the servers and the two workers whose line it is for: so a third worker can
    pretend to be neither of them, and what one has shown to another proves nothing to the servers. As everything that
    travels it can be read along by whoever listens in on the network.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        process: ProcessConfig,
        rank: int,
        poller: zmq.Poller,
        expects: Callable[[], bool],
    ) -> None:
        """Listen. ``expects``: whether the others are not known yet, or no more; any thread may ask.

        Raises ConfigError where that is impossible.
        """
        self._context = context
        self._poller = poller
        self._directory = PrivateDirectory(process.runtime_dir)
        self._router = open_socket(context, zmq.ROUTER)
        self._security = security_of(self._router)
        # Others may hear before this worker does that they are of its pipeline now, though hardly before the view.
        self._security.admission.patience, self._security.admission.expects = PATIENCE, expects
        self._inbox = Inbox(self._router, "worker", rank)
        self._origins: dict[bytes, int] = {}
        """Whose connection is whose, by rank, of those who have shown it."""
        self._neighbours: dict[int, Neighbour] = {}
        self._dealers: dict[int, Socket] = {}
        self._incoming: dict[int, Incoming] = {}
        self._introduced: dict[int, float] = {}
        self._guard = DescriptorGuard(self._router, descriptors.allowed(), inbox=self._inbox)
        place = Place(self._router, process.host, 0, self._directory.path, poller, self._inbox.rejected, self._guard)
        listening = [registry.transport(name).listen(place) for name in CARRIED]
        found = [each for each in listening if each is not None]
        self.addresses = tuple(
            self._security.told(advertised(each.address, process.advertise, process.host, process.scheduler or ""))
            if each.address.startswith("tcp:")
            else each.address
            for each in found
        )
        self._channels = BufferChannels(self._directory.path, poller, self._believed)
        if self._channels.address:
            self.addresses = (self._channels.address, *self.addresses)
        self._ready: dict[Any, int] = {}
        """What the last poll has found."""
        self.offered: dict[int, OfferedBuffers] = {}
        """The memory shared with other workers of this host, by rank."""
        poller.register(self._router, zmq.POLLIN)

    def connect(self, neighbours: list[Neighbour], transport: str, member: int) -> list[Incoming]:
        """Connect to the others, and say who this is. Return what comes on these sockets, for a thread to look at.

        What there is to one that is gone, of whose rank another is now, ends. Raises Refused for one that the wanted
        transport does not reach, Unshared where that is shared memory.
        """
        self._member = member
        for each in neighbours:
            former = self._neighbours.get(each.rank)
            if former is not None and former.member == each.member:
                continue
            self._part_from(each.rank)
            self._neighbours[each.rank] = each
            address = self._reach(each, transport)
            sock = self._dealers[each.rank] = open_socket(self._context, zmq.DEALER)
            self._incoming[each.rank] = Incoming(sock, f"worker {each.rank} at {address}")
            registry.connect(sock, address)
            self._poller.register(sock, zmq.POLLIN)
            self.introduce(each.rank)
            how = ", and shares memory" if each.rank in self.offered else ""
            log.info("worker %d is reached at %s%s", each.rank, address, how)
        self._channels.meet()
        self._let_in()
        return list(self._incoming.values())

    def _let_in(self) -> None:
        """Let in the others of this pipeline, by the keys that the scheduler has told with their addresses."""
        if self._security.own is None:
            return
        keys = {(rank, split_key(address)[1]) for rank, each in self._neighbours.items() for address in each.addresses}
        gone = self._security.admission.admit(PublicKeys(f"worker-{rank}", "worker", key) for rank, key in keys if key)
        if gone:
            self._inbox.end_unlisted(self._guard.accepted)

    def _reach(self, each: Neighbour, transport: str) -> str:
        """Return the address to which headers go; offer to share memory where that is possible."""
        who = f"worker {each.rank}"
        best = registry.choose(each.addresses, transport, who)[0]
        if not registry.shares_memory(best):
            return best
        try:
            introduction = Introduce(0, self._member, each.token)
            self.offered[each.rank] = self._channels.offer(each.rank, best, introduction)
        except Unshared as error:
            if transport != "auto":
                raise Unshared(f"{who} cannot share memory with this process ({error}). Try --transport auto") from None
            log.warning("%s: no shared memory (%s)", who, error)
        carried = tuple(address for address in each.addresses if not registry.shares_memory(address))
        return registry.choose(carried, "auto", who)[0]

    def _part_from(self, rank: int) -> None:
        """End what there is to a worker, if there is anything."""
        self.offered.pop(rank, None)
        self._channels.part_from(rank)
        self._origins = {origin: at for origin, at in self._origins.items() if at != rank}
        if (sock := self._dealers.pop(rank, None)) is not None:
            self._poller.unregister(sock)
            self._incoming.pop(rank).close()
            sock.close(0)

    def introduce(self, rank: int) -> None:
        """Say to another worker who this is."""
        self._introduced[rank] = time.monotonic()
        self.send(rank, Introduce(0, self._member, self._neighbours[rank].token))

    def send(self, rank: int, message: Message, payload: HostArray | None = None) -> bool:
        """Send to another worker; False: there is no room now. The payload must not change any more."""
        if isinstance(message, SharedTransfer) and self._channels.send(rank, message):
            return True
        sock = self._dealers[rank]
        try:
            sock.send(encode(message), zmq.NOBLOCK | (0 if payload is None else zmq.SNDMORE))
        except zmq.Again:
            return False
        if payload is not None:
            sock.send(payload.data, copy=False)
        return True

    def reply(self, rank: int, message: Message) -> None:
        """Say something on the connection on which another worker sends."""
        if self._channels.reply(rank, message):
            return
        for origin, at in self._origins.items():
            if at == rank:
                self._inbox.send(origin, message)

    def adopted(self, rank: int, number: int, use: int, nbytes: int) -> HostArray:
        """Return what another worker has laid into a buffer. Raises BadMessage."""
        return self._channels.buffers(rank).receive(number, use, nbytes)

    def poll(self, milliseconds: int) -> None:
        """Wait for something to come, for so long at most."""
        self._ready = dict(self._poller.poll(milliseconds))

    def receive(self) -> Iterator[tuple[int, TransferPart | SharedTransfer | CreditRequest, Any]]:
        """Yield what others send, with their ranks; what is not from one of them is told so."""
        for sender, header in self._channels.receive(self._ready):
            if header.member == self._neighbours[sender].member:  # else of one who was in its place before
                yield sender, header, None
        if self._router not in self._ready:
            return
        for origin, message, payload in self._inbox.receive(BATCH):
            if isinstance(message, Introduce):
                self._meet(origin, message)
                continue
            rank = self._origins.get(origin)
            if rank is None or getattr(message, "member", 0) != self._neighbours[rank].member:
                text = f"a {type(message).__name__} from a connection that has not shown whose it is: Introduce first"
                self._inbox.send(origin, Error(getattr(message, "request", 0), "stranger", text))
            elif isinstance(message, TransferPart | SharedTransfer | CreditRequest):
                yield rank, message, payload
            else:
                error = BadMessage(f"a worker has no use for {type(message).__name__}")
                self._inbox.reject(origin, getattr(message, "request", 0), error)

    def _meet(self, origin: bytes, message: Introduce) -> None:
        rank = self._believed(message)
        if rank is not None:
            self._origins = {o: at for o, at in self._origins.items() if at != rank}
            self._origins[origin] = rank
            return
        text = "this does not prove that you are a worker of this pipeline"
        self._inbox.send(origin, Error(message.request, "stranger", text))

    def _believed(self, message: Introduce) -> int | None:
        """Return the rank of the worker that introduces itself so; None for nobody of this pipeline."""
        for rank, each in self._neighbours.items():
            if each.member == message.member and each.its_token == message.token:
                return rank
        return None

    def answers(self, again: Callable[[int], None]) -> Iterator[tuple[int, Credit]]:
        """Yield what others say of what was sent to them, with their ranks. ``again`` is called with the rank of one
        that does not know this connection. Raises what they find wrong with what was sent."""
        for rank, answer in self._channels.answers(self._ready):
            yield rank, _credit(rank, answer)
        for rank, incoming in self._incoming.items():
            if self._dealers[rank] not in self._ready:
                continue
            with suppress(zmq.Again):
                for _ in range(BATCH):
                    header = incoming.receive()
                    try:
                        message = decode(header)
                    except ProtocolError as error:
                        raise type(error)(f"worker {rank}: {error}") from None
                    if not (isinstance(message, Error) and message.code == "stranger"):
                        yield rank, _credit(rank, message)
                    elif time.monotonic() - self._introduced[rank] >= AGAIN:
                        self.introduce(rank)
                        again(rank)

    def reject(self, rank: int, error: ProtocolError) -> None:
        """Tell another worker what is wrong with what it sent."""
        for origin, at in self._origins.items():
            if at == rank:
                self._inbox.reject(origin, 0, error)

    def close(self) -> None:
        """Close everything; what was not sent is dropped."""
        self._guard.close()
        self._channels.close()
        for incoming in self._incoming.values():
            incoming.close()
        for sock in (self._router, *self._dealers.values()):
            sock.close(0)
        self._directory.remove()


def _credit(rank: int, message: Message) -> Credit:
    """Return what is a credit. Raises what another worker says that is wrong, and BadMessage."""
    if isinstance(message, Error):
        raise refusal(message, f"worker {rank}")
    if not isinstance(message, Credit):
        raise BadMessage(f"worker {rank}: {message!r} is no answer to a transfer")
    return message
