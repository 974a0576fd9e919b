"""Answers on the lines of listeners, for workers that ZeroMQ does not carry."""

from __future__ import annotations

from ps.protocol.transports.listener import Line
from ps.server.loan import SENT
from ps.server.send import Send


def perform(line: Line, send: Send) -> None:
    """Answer on a line, if it is still there; what was lent is free either way."""
    loan = send.loan
    if loan is not None:
        loan.tracker = SENT
    if line.listener is not None and line in line.listener:
        weights, chunk = (loan.weights, loan.chunk) if loan is not None else (None, None)
        line.listener.perform(line, send.message, weights, chunk, aside=send.aside)
