"""Dispatch: which of a member's messages are about rounds, and what they mean to them, from before their first on."""

from __future__ import annotations

from typing import Any

from ps.errors import BadMessage
from ps.protocol.messages import (
    Consent,
    Decline,
    Distances,
    HelpOrder,
    HelpRequest,
    KeyOffer,
    KeyShares,
    Message,
    Poll,
    Reveal,
    RoundStatus,
    Submit,
    Wait,
)
from ps.server.job_key import JobKey
from ps.server.scheduler.member_record import LEFT, MemberRecord
from ps.server.scheduler.report import kept
from ps.server.scheduler.rounds.rounds import Rounds
from ps.server.send import ASKER, Send

ABOUT_ROUNDS = (Poll, Submit, Decline, RoundStatus, Distances, KeyOffer, KeyShares, Consent, Reveal)
"""What is said of rounds."""
SOON = 0.2
"""Seconds after which a client that comes before there is a model comes again."""


def receive(rounds: Rounds | None, record: MemberRecord, message: Message, payload: Any, now: float) -> list[Send]:
    """Take a member's message about rounds. Raises BadMessage when it is none.

    There are none before the first values are on all servers: clients are to come again then, and servers are heard.
    """
    match message:
        case Poll() if record.role == "worker":
            record.report = kept(message.report) or record.report
            if rounds is None:
                return [Send(record.member, Wait(message.request, 0, SOON))]
            return list(rounds.poll(message, record.rank, now))
        case Submit() if record.role == "worker" and rounds is not None:
            return list(rounds.submit(message, record.rank, now))
        case Decline() if record.role == "worker" and rounds is not None:
            return list(rounds.decline(message, record.rank, now))
        case KeyOffer() | KeyShares() | Consent() | Reveal() if record.role == "worker" and rounds is not None:
            return list(rounds.mask(message, record.rank, now))
        case RoundStatus() if record.role == "server":
            return list(rounds.server_status(message, record.rank, now)) if rounds is not None else []
        case Distances() if record.role == "server" and rounds is not None:
            return list(rounds.distances(message, record.rank, payload, now))
    raise BadMessage(f"a scheduler has no use for {type(message).__name__} from {record}")


def helped(rounds: Rounds | None, message: HelpRequest, now: float, key: JobKey) -> list[Send]:
    """Somebody who is no member helps to take masks off; the first of what is returned is for it."""
    if rounds is None:
        return [Send(ASKER, HelpOrder(message.request, 0, 0, 0, ()))]
    return rounds.help(message, now, key.masks)


def gone(rounds: Rounds, record: MemberRecord, now: float) -> list[Send]:
    """A member has left or died."""
    if record.role == "server":
        return list(rounds.server_lost(record.rank, now))
    return list(rounds.client_lost(record.member, record.rank, now, left=record.state == LEFT))
