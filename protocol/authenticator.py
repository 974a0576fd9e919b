"""Authenticator: answers ZeroMQ when it asks who may connect (ZAP, rfc.zeromq.org/spec/27), on a thread of its own.

It is closed by default. Sockets are bound after the place where ZeroMQ asks is, which stays bound as long as they are:
where nobody answers any more, since the thread here has ended, ZeroMQ waits, and gives a connection up. Without such a
place it would let everybody in (libzmq 4.3.5, for CURVE), so what gets in unasked has no user id, and an ``Inbox``
believes nobody without.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import threading
import time
from dataclasses import replace

import zmq

from ps.dataclass import dataclass
from ps.protocol.guest_list import LOCAL, GuestList

log = logging.getLogger("ps.keys")

ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"paramserver"
VERSION = b"1.0"
MOST_PENDING = 1000
"""Connections whose key is not known yet and may become so, at most; of more the oldest are to try again."""
SLICE = 0.05
"""Seconds between two looks at whether they are known by now."""
TELL = 10.0
"""Seconds between two lines about the same key that was refused; all others are counted."""
MOST_TOLD = 100
"""Keys that are remembered for that."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What ZeroMQ asks of one connection."""

    route: tuple[bytes, ...]
    number: bytes
    user: str
    address: str
    came: float


class Authenticator:
    """Answers for one context, from its making to ``close``."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], admission: GuestList) -> None:
        self._admission = admission
        # Of a shadow, so that whoever closes all sockets of the context does not close this one while it is polled.
        self._context = zmq.Context[zmq.Socket[bytes]].shadow(context)
        self._pending: list[_Question] = []
        self._told: dict[str, float] = {}
        self._untold = 0
        self._stop = secrets.token_bytes(16)
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ENDPOINT)
        self._thread = threading.Thread(target=self._run, name="authenticator", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether anybody can get in."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop; to be called when all that is bound in the context is closed."""
        with contextlib.suppress(zmq.ZMQError):
            sock = self._context.socket(zmq.DEALER)
            sock.connect(ENDPOINT)
            sock.send(self._stop)
            self._thread.join(5.0)
            sock.close(0)
        self._socket.close(0)

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception:
            log.exception("the authenticator has ended: nobody new is let in any more. Start this process anew")

    def _turn(self) -> bool:
        """Answer what is asked; return whether to go on."""
        for _ in range(MOST_PENDING if self._socket.poll(int(SLICE * 1000) if self._pending else 1000) else 0):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            if frames[-1] == self._stop:
                return False
            self._take(frames)
        if self._pending:
            self._settle()
        return True

    def _take(self, frames: list[bytes]) -> None:
        """Take a question; what is none is dropped, and whoever it was for does not get in."""
        try:
            at = frames.index(VERSION)
            route, (_, number, domain, address, _, mechanism, *credentials) = tuple(frames[:at]), frames[at:]
        except ValueError:
            log.warning("ZeroMQ asked something that this version does not understand; nobody is let in for it")
            return
        question = _Question(route, number, "", address.decode("ascii", "replace"), time.monotonic())
        try:
            user = self._user(domain, mechanism, question.address, credentials)
        except Exception:
            log.exception("a connection from %s is refused, for want of an answer", question.address)
            self._answer(question, b"500", "no answer")
            return
        if not user:
            self._refuse(question, f"it came with {mechanism.decode('ascii', 'replace')[:20]} and no key")
            return
        self._pending.append(replace(question, user=user))

    def _user(self, domain: bytes, mechanism: bytes, address: str, credentials: list[bytes]) -> str:
        """Return the user id of a connection; nothing for one that cannot have any."""
        if domain != DOMAIN:
            return ""
        if mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == 32:
            return credentials[0].hex()
        # Of a Unix socket the kernel says whose process is at the other end: localhost:user:group:process.
        host, _, rest = address.partition(":")
        if mechanism == b"NULL" and host == "localhost" and rest.partition(":")[0] == str(os.getuid()):
            return LOCAL
        return ""

    def _settle(self) -> None:
        """Answer those whose key is known, or has been unknown for too long."""
        now, left = time.monotonic(), list[_Question]()
        patience = math.inf if self._admission.expects() else self._admission.patience
        for number, question in enumerate(self._pending):
            if self._admission.find(question.user) is not None:
                self._answer(question, b"200", "", question.user)
            elif self._admission.bars(question.user) or now - question.came >= patience:
                self._refuse(question, f"its key is not listed here: {question.user}")
            elif len(self._pending) - number <= MOST_PENDING:
                left.append(question)
            else:  # not refused, which is for ever: whoever is about to be let in tries again
                self._answer(question, b"300", "later")
        self._pending = left
        self._admission.wondering = bool(left)

    def _refuse(self, question: _Question, why: str) -> None:
        self._answer(question, b"400", "refused")
        now = time.monotonic()
        if now - self._told.get(why, -TELL) < TELL or (len(self._told) >= MOST_TOLD and why not in self._told):
            self._untold += 1
            if len(self._told) >= MOST_TOLD and now - max(self._told.values()) >= TELL:
                self._told.clear()
            return
        self._told[why] = now
        others = f" (and {self._untold} others)" if self._untold else ""
        self._untold = 0
        log.warning("a connection from %s is refused: %s%s", question.address, why, others)

    def _answer(self, question: _Question, code: bytes, text: str, user: str = "") -> None:
        frames = [*question.route, VERSION, question.number, code, text.encode(), user.encode(), b""]
        with contextlib.suppress(zmq.ZMQError):  # whoever it was for has gone
            self._socket.send_multipart(frames, zmq.NOBLOCK)
