"""Outgoing: what a server says, and by which way: to workers, followers of the model, the scheduler, other servers."""

from __future__ import annotations

import contextlib
from typing import Any

import zmq

from ps.errors import BadMessage
from ps.protocol.inbox import Inbox
from ps.protocol.messages import Error
from ps.protocol.sockets import Socket
from ps.server.send import SCHEDULER, Line, Origin, Send
from ps.server.shard import lines
from ps.server.shard.server_lines import ServerLines
from ps.trace import Trace


class Outgoing:
    """The ways out of one server process. ``dealer`` goes to the scheduler, ``servers`` to other servers."""

    def __init__(self, inbox: Inbox, dealer: Socket, servers: ServerLines, trace: Trace) -> None:
        self._inbox = inbox
        self._dealer = dealer
        self._servers = servers
        self._trace = trace

    def perform(self, sends: list[Send]) -> None:
        """Send all of these."""
        for send in sends:
            loan, since = send.loan, self._trace.now()
            if isinstance(send.to, int):
                self.say(send)
            elif isinstance(send.to, Line):
                lines.perform(send.to, send)
            elif loan is None:
                self._inbox.send(send.to, send.message)
            else:
                lines.lend(self._inbox, send.to, send.message, loan)
            self._trace.add("send", since, name=type(send.message).__name__, chunk=getattr(send.message, "chunk", -1))

    def say(self, send: Send) -> None:
        """Speak to the scheduler or another server; what does not get there is said again."""
        if (header := self._inbox.written(send.message)) is None:
            return
        if isinstance(send.to, int) and send.to != SCHEDULER:
            self._servers.send(send.to, header, send.payload)
            return
        with contextlib.suppress(zmq.Again):
            self._dealer.send(header, zmq.NOBLOCK | (zmq.SNDMORE if send.payload is not None else 0))
            if send.payload is not None:
                self._dealer.send(send.payload.data, copy=True)

    def refuse(self, origin: Origin, refusal: Error | None) -> None:
        """Tell somebody why it is not believed, if so."""
        if refusal is not None:
            self.perform([Send(origin, refusal)])

    def reject(self, origin: Origin, message: Any, error: BadMessage) -> None:
        """Tell somebody what is wrong with a message."""
        listener = self._inbox if isinstance(origin, bytes) else origin.listener
        if listener is not None:
            listener.reject(origin, getattr(message, "request", 0), error)  # type: ignore[arg-type]
