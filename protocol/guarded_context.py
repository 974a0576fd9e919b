"""GuardedContext: a ZeroMQ context that knows how its sockets are protected, so that none can forget it."""

from __future__ import annotations

import os

import zmq
from zmq.utils import z85

from ps.errors import KeyRefused
from ps.protocol.authenticator import DOMAIN, Authenticator
from ps.protocol.security import OPEN, Security

Socket = zmq.Socket[bytes]


class GuardedContext(zmq.Context[Socket]):
    """Like a ``zmq.Context``. What is bound in it lets in only whom its ``security`` admits."""

    security: Security = OPEN
    _authenticator: Authenticator | None = None

    @classmethod
    def of(cls, security: Security) -> GuardedContext:
        """Return a new context whose sockets are protected like this."""
        made = cls()
        made.security = security
        return made

    def authenticate(self) -> None:
        """Have an authenticator answer for this context, before anything is bound in it."""
        if self._authenticator is None:
            self._authenticator = Authenticator(self, self.security.admission)

    def term(self) -> None:
        """End it, the authenticator last."""
        if self._authenticator is not None:
            self._authenticator.close()
            self._authenticator = None
        super().term()


def security_of(sock: Socket) -> Security:
    """Return how a socket is protected; like one without keys, if it was made in any other context."""
    context = sock.context
    return context.security if isinstance(context, GuardedContext) else OPEN


def guard_tcp(sock: Socket, host: str) -> None:
    """Set what is to hold for the address that a socket is bound to next. Raises ConfigError for one that is not to be.

    It is done where sockets are bound and nowhere else: options that are set later mean nothing to ZeroMQ.
    """
    security = security_of(sock)
    security.demand_loopback(host)
    if security.own is None:
        return
    _authenticate(sock)
    sock.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(security.own.curve))
    sock.setsockopt(zmq.CURVE_SERVER, 1)


def guard_ipc(sock: Socket) -> None:
    """Set what is to hold for the Unix socket that a socket is bound to next: processes of this user's only."""
    sock.setsockopt(zmq.IPC_FILTER_UID, os.getuid())
    if security_of(sock).own is not None:
        _authenticate(sock)
        sock.setsockopt(zmq.CURVE_SERVER, 0)


def _authenticate(sock: Socket) -> None:
    context = sock.context
    assert isinstance(context, GuardedContext)
    context.authenticate()
    sock.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)


def aim(sock: Socket, expected: bytes | None, peer: str) -> None:
    """Set whose key is expected at the address that a socket is connected to next, and which it is shown.

    Raises KeyRefused where keys are used and none is expected there.
    """
    own = security_of(sock).own
    if own is None:
        return
    if expected is None:
        raise KeyRefused(f"{peer} comes without a key, and this process talks only to those who have one")
    sock.setsockopt(zmq.CURVE_PUBLICKEY, z85.encode(own.public.curve))
    sock.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(own.curve))
    sock.setsockopt(zmq.CURVE_SERVERKEY, z85.encode(expected))
