"""Answers with weights: on a ROUTER, and on the lines of listeners, for workers that ZeroMQ does not carry."""

from __future__ import annotations

import numpy as np

from ps.protocol.inbox import Inbox
from ps.protocol.messages import Message
from ps.protocol.transports.listener import Line
from ps.server.loan import SENT, Loan
from ps.server.send import Send


def lend(inbox: Inbox, to: bytes, message: Message, loan: Loan) -> None:
    """Answer on a ROUTER, from where the weights lie unless they are to stay there."""
    weights = loan.weights.copy() if loan.stay else loan.weights
    tracker = inbox.lend(to, message, weights.view(np.uint8))  # bfloat16 has no buffer
    loan.tracker = SENT if loan.stay or tracker is None else tracker


def perform(line: Line, send: Send) -> None:
    """Answer on a line, if it is still there; what was lent is free where nobody has it any more."""
    loan = send.loan
    if loan is not None:
        loan.tracker = SENT
    if line.listener is not None and line in line.listener:
        weights, chunk = (loan.weights, loan.chunk) if loan is not None else (None, None)
        stays = loan is not None and loan.stay and line.lends
        if stays and weights is not None:
            weights = weights.copy()
        tracker = line.listener.perform(line, send.message, weights, chunk, aside=send.aside)
        if loan is not None and tracker is not None and not stays:
            loan.tracker = tracker
