"""KeyList: the scheduler's word on whom it lets in, which servers ask for with their heartbeats."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from typing import cast

from ps.keys.public_keys import PublicKeys
from ps.protocol.messages import Keys, KeysRequest, Message
from ps.protocol.messages.words import KeyRole
from ps.protocol.ranges import MOST_KEYS
from ps.protocol.security import Security

log = logging.getLogger("ps.keys")

PATIENCE = 1.0
"""Seconds for which a server waits to hear from the scheduler of a key that it does not know."""


def key_list(keys: Iterable[PublicKeys], revoked: Iterable[bytes]) -> Keys:
    """Return the message that says who is let in; equal lists have equal digests, whoever makes them."""
    rows = [(each.name, cast(KeyRole, each.role), each.curve.hex()) for each in keys]
    barred = tuple(sorted(each.hex() for each in revoked))
    if len(rows) > MOST_KEYS or len(barred) > MOST_KEYS:
        log.error("%d keys are listed, and %d are told to the servers: list fewer", len(rows), MOST_KEYS)
    admitted, barred = tuple(sorted(rows)[:MOST_KEYS]), barred[:MOST_KEYS]
    digest = hashlib.sha256(repr((admitted, barred)).encode()).digest()
    return Keys(int.from_bytes(digest[:8], "big") >> 2 or 1, admitted, barred)


class KeyList:
    """What a server has heard of the scheduler's list."""

    def __init__(self, security: Security) -> None:
        """Until it has heard of one, an unknown key is neither let in nor refused."""
        self._security = security
        self._latest = Keys(0, (), ())
        security.admission.patience = float("inf")
        security.admit_listed()

    def ask(self, member: int) -> list[Message]:
        """Return what this server says with its heartbeats."""
        return [KeysRequest(member, self._latest.digest)] if self._security.own is not None else []

    def hear(self, message: Keys) -> set[str]:
        """Take the scheduler's list; return the user ids of those who are let in no more."""
        self._latest = message
        self._security.admission.patience = PATIENCE
        return self.settle()

    def settle(self) -> set[str]:
        """Let in whom the scheduler and this process's own folder list; return who is let in no more."""
        try:
            more = tuple(PublicKeys(name, role, bytes.fromhex(key)) for name, role, key in self._latest.admitted)
            revoked = frozenset(bytes.fromhex(key) for key in self._latest.revoked)
        except ValueError:
            log.error("the scheduler's list of keys cannot be read; the one before stays")
            return set()
        return self._security.admit_listed(more, revoked)
