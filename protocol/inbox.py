"""Inbox: the listening end of a server or scheduler. Reads messages, and counts, drops and answers bad ones."""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import zmq

from ps.errors import BadMessage, ProtocolError
from ps.keys.public_keys import PublicKeys
from ps.protocol.backlog import cut
from ps.protocol.codec import decode, encode
from ps.protocol.error_codes import code_of
from ps.protocol.guarded_context import security_of
from ps.protocol.guest_list import GuestList
from ps.protocol.messages import Error, Message, Ping, Pong
from ps.protocol.messages.words import ProcessRole
from ps.protocol.nuisance import MALFORMED, MOST_PEERS, REFUSED, Nuisance
from ps.protocol.rights import may
from ps.protocol.seldom import Seldom
from ps.protocol.sockets import Socket
from ps.protocol.unread import MOST_UNREAD, Unread

log = logging.getLogger("ps.protocol")

MOST_UNREAD_TEXT = 16 << 20
"""Bytes of messages without payload that are kept for a peer which does not read them, at most."""
MOST_UNREAD_BY_ALL = 256 << 20
"""Bytes of these that are kept for all of them, at most."""
SHORT = 1024
"""Bytes of a message that is not counted so: ``high_water`` bounds how many there are."""

FRAME = 2
"""Bytes of ZMTP before those of a frame, at least."""
SKIP = 1000
"""Frames of an overlong message that are dropped before the caller gets to look at its other sockets."""


class Inbox:
    """A ROUTER socket that yields (origin, message, payload) and keeps garbage to itself.

    ``rejected`` counts by reason what was dropped here, and by code every Error that was sent. Pings are answered
    here. An Error is never answered, so that two listeners cannot keep each other busy.
    """

    def __init__(
        self,
        sock: Socket,
        role: ProcessRole,
        rank: int,
        *,
        tells_address: bool = False,
        admission: GuestList | None = None,
    ) -> None:
        """``tells_address``: ``address`` is to be known, which costs some microseconds a message.

        ``admission``: whose messages are heard, by the keys of their connections; None: of those whom the socket's
        context lets in, and everybody's where it has no keys.
        """
        security = security_of(sock)
        self._admission = admission or (security.admission if security.own else None)
        self.speaker: PublicKeys | None = None
        """Whose key the connection has that the message came on that was yielded last."""
        self._users: dict[int, str] = {}
        """The user ids of connections, by their descriptors, as far as anything came on them."""
        self.socket = sock
        self._tells_address = tells_address
        self.address = ""
        """The IP address that the message came from that was yielded last; nothing when it is not known."""
        self.role = role
        self.rank = rank
        self.rejected: Counter[str] = Counter()
        self.drained = True
        """Whether nothing was left when ``receive`` was done."""
        self._drains = 0
        self._taken = 0
        self._heard: set[int] | None = None
        """The descriptors of connections from which messages were taken; None while nobody asks."""
        self._overlong: bytes | None = None
        self.most_unread = MOST_UNREAD
        """Bytes of payloads that are kept for a peer which does not read them, at most."""
        self._unread = Unread()
        self._unread_text = Unread()
        self._kept = b""
        """The latest of these: memory for several peers is taken once."""
        self._nuisance = Nuisance()
        self._cut_off: dict[bytes, int] = {}
        """Connections of which nothing is heard any more, and the descriptor that was cut, -1 before that."""
        self._seldom = Seldom()
        self._encoded: tuple[Message, bytes] | None = None
        """What was sent last: a view goes to thousands."""

    def receive(self, most: int) -> Iterator[tuple[bytes, Any, Any]]:
        """Yield at most ``most`` messages that are here now."""
        self.drained = False
        for _ in range(most):
            if self._overlong is not None and not self._skip(self._overlong):
                return
            try:
                origin = self._origin()
            except zmq.Again:
                self.drained = True
                self._drains += 1
                return
            header, payload, more = self._frames()
            if more:
                self._overlong = origin
                continue
            if self._cut_off and origin in self._cut_off:
                self.rejected["cut-off"] += 1
                continue
            if self._admission is not None and self.speaker is None:
                self.rejected["unlisted"] += 1
                continue
            try:
                message = decode(header)
                if message.payload != (payload is not None):
                    raise BadMessage(f"{type(message).__name__} with a wrong number of frames", "frames")
                if self.speaker is not None and not may(self.speaker.role, self.role, type(message)):
                    raise BadMessage(f"the key of a {self.speaker.role} may not say {type(message).__name__}", "role")
            except ProtocolError as error:
                self.reject(origin, 0, error)
                continue
            if isinstance(message, Error):
                self.rejected["error"] += 1
                continue
            if isinstance(message, Ping):
                self.send(origin, Pong(message.request, self.role, self.rank))
                continue
            yield origin, message, payload

    def load(self) -> tuple[int, int]:
        """Return how often nothing was left, and how many bytes were taken; any thread may ask."""
        return self._drains, self._taken

    def heard(self) -> set[int]:
        """Return the descriptors of connections from which messages were taken since the last call; noting goes on."""
        if self._heard is None:
            return set()
        heard, self._heard = self._heard, set()
        return heard.copy()  # one message more may be noted in what it was meanwhile

    def note_heard(self, *, on: bool = True) -> None:
        """Note from now on from which connections messages are taken, which costs microseconds a message; or end it.

        Another thread may ask, with ``heard``; the message that is taken just then may be missed.
        """
        if not on:
            self._heard = None
        elif self._heard is None:
            self._heard = set()

    def _origin(self) -> bytes:
        heard = self._heard
        if heard is None and not self._tells_address and not self._cut_off and self._admission is None:
            return self.socket.recv(zmq.NOBLOCK)
        frame = self.socket.recv(zmq.NOBLOCK, copy=False)
        if self._admission is not None:
            self.speaker = self._speaker(frame, self._admission)
        if heard is not None:
            with contextlib.suppress(zmq.ZMQError):
                heard.add(int(frame.get(zmq.SRCFD)))
        if self._tells_address:
            try:
                self.address = str(frame.get("Peer-Address"))
            except zmq.ZMQError:  # not every connection has one, and some have lost it: those that have just closed
                self.address = ""
        origin = bytes(frame.buffer)
        if self._cut_off and self._cut_off.get(origin) == -1:
            self._part_from(origin, frame)
        return origin

    def _part_from(self, origin: bytes, frame: zmq.Frame) -> None:
        """End the connection on which a message has come."""
        with contextlib.suppress(zmq.ZMQError):
            self._cut_off[origin] = number = int(frame.get(zmq.SRCFD))
            cut(number)

    def _speaker(self, frame: zmq.Frame, admission: GuestList) -> PublicKeys | None:
        """Return whose key a connection has; it is cut off, and nobody's, once that is let in no more."""
        try:
            user, number = str(frame.get("User-Id")), int(frame.get(zmq.SRCFD))
        except (zmq.ZMQError, ValueError):  # it was never asked who it is
            return None
        self._users[number] = user
        found = admission.find(user)
        if found is None:
            cut(number)
        return found

    def end_unlisted(self, accepted: set[int]) -> int:
        """End the connections of those who are let in no more, and those of which it is not known; return how many.

        ``accepted``: the descriptors of all that there are.
        """
        admission = self._admission
        self._users = {number: user for number, user in self._users.items() if number in accepted}
        if admission is None:
            return 0
        ended = [number for number in accepted if admission.find(self._users.get(number, "")) is None]
        for number in ended:
            cut(number)
        return len(ended)

    def _frames(self) -> tuple[bytes, Any, bool]:
        """Return the header, the payload or None, and whether there are more frames than a message has."""
        header = self.socket.recv(zmq.NOBLOCK)
        self._taken += len(header) + FRAME
        if not self.socket.getsockopt(zmq.RCVMORE):
            return header, None, False
        payload = self.socket.recv(zmq.NOBLOCK, copy=False)
        self._taken += len(payload) + FRAME
        return header, payload.buffer, bool(self.socket.getsockopt(zmq.RCVMORE))

    def _skip(self, origin: bytes) -> bool:
        """Drop frames of a message that has too many; return whether it is over."""
        for _ in range(SKIP):
            self._taken += len(self.socket.recv(zmq.NOBLOCK)) + FRAME
            if not self.socket.getsockopt(zmq.RCVMORE):
                self._overlong = None
                self.reject(origin, 0, BadMessage("a message with a wrong number of frames: it has 1 or 2", "frames"))
                return True
        return False

    def reject(self, origin: bytes, request: int, error: ProtocolError) -> None:
        """Count a bad message and tell its sender why, if it still listens."""
        self.rejected[error.reason] += 1
        self._send(origin, Error(request, code_of(error), str(error)))
        self._bear(origin, MALFORMED)

    def _bear(self, origin: bytes, cost: int) -> None:
        """Count that a peer has said something wrong; if that was too much, its connection ends with the next."""
        now = time.monotonic()
        if not self._nuisance.is_too_much(origin, cost, now) or origin in self._cut_off:
            return
        if len(self._cut_off) >= MOST_PEERS:
            del self._cut_off[next(iter(self._cut_off))]
        self._cut_off[origin] = -1
        self._seldom.warn(log, now, "a connection is cut: nearly all that comes on it is wrong")

    def send(self, origin: bytes, message: Message) -> None:
        """Send a message without payload; dropped when the peer is gone or does not read."""
        if isinstance(message, Error):
            self.rejected[message.code] += 1
            self._bear(origin, REFUSED)
        self._send(origin, message)

    def reach(self, origin: bytes, message: Message) -> bool:
        """Send a message; return whether there is a connection, on a socket that is set to know (ROUTER_MANDATORY)."""
        try:
            self.socket.send(origin, zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.Again:  # it is there, and has not read for long
            return True
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                return False
            raise
        self.socket.send(encode(message), zmq.NOBLOCK)
        return True

    def _send(self, origin: bytes, message: Message) -> None:
        if self._encoded is None or self._encoded[0] is not message:
            if (written := self.written(message)) is None:  # whoever waits for it asks again, and is seen to
                return
            self._encoded = message, written
        self.pass_on(origin, self._encoded[1])  # made first: a socket must not be left between two frames

    def pass_on(self, origin: bytes, header: bytes) -> None:
        """Send a message that was written already, without payload; dropped when the peer is gone or does not read."""
        is_long = len(header) > SHORT
        if is_long and not self._has_room(origin, len(header)):
            self.rejected["unread"] += 1
            return
        with contextlib.suppress(zmq.ZMQError):
            self.socket.send(origin, zmq.SNDMORE | zmq.NOBLOCK)
            if is_long:
                frame = zmq.Frame(header, track=True, copy=False, copy_threshold=0)
                tracker: Any = self.socket.send(frame, zmq.NOBLOCK, copy=False, track=True)
                self._unread_text.lend(origin, tracker, len(header), again=header is self._kept)
                self._kept = header
            else:
                self.socket.send(header, zmq.NOBLOCK)

    def _has_room(self, origin: bytes, nbytes: int) -> bool:
        """Whether a message may be kept for a peer until that reads it."""
        if self._unread_text.left(origin) + nbytes > MOST_UNREAD_TEXT:
            return False
        if self._unread_text.total + nbytes > MOST_UNREAD_BY_ALL:
            self._unread_text.sweep()
        return self._unread_text.total + nbytes <= MOST_UNREAD_BY_ALL

    def written(self, message: Message) -> bytes | None:
        """Return a message as it travels; None when nobody could read it, which is counted, and told the first time."""
        try:
            return encode(message)
        except BadMessage as error:
            self.rejected["unsent"] += 1
            if self.rejected["unsent"] == 1:
                log.warning("a message is not sent: %s", error)
            return None

    def lend(self, origin: bytes, message: Message, payload: Any) -> Any:
        """Send a message with a payload that is not copied; return a tracker that knows when it is free.

        None when it is not sent: it cannot be written, or the peer has not read ``most_unread`` bytes of others. It
        may ask again.
        """
        nbytes = memoryview(payload).nbytes
        if self._unread.left(origin) + nbytes > self.most_unread:
            self.rejected["unread"] += 1
            return None
        if (header := self.written(message)) is None:
            return None
        self.socket.send(origin, zmq.SNDMORE)
        self.socket.send(header, zmq.SNDMORE)
        tracker = self.socket.send(payload, copy=False, track=True)
        if not tracker.done:
            self._unread.lend(origin, tracker, nbytes)
        return tracker
