"""Gate: whom a server lets in, by its own list and the scheduler's, and the end of those whom it does not any more."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ps.config.process import ProcessConfig
from ps.protocol.descriptor_guard import DescriptorGuard
from ps.protocol.dial import Dial
from ps.protocol.guarded_context import GuardedContext
from ps.protocol.inbox import Inbox
from ps.protocol.incoming import Incoming
from ps.protocol.key_list import KeyList
from ps.protocol.membership import Membership
from ps.protocol.messages import Keys, Message, View
from ps.protocol.security import Security
from ps.server.shard.callers import Callers

log = logging.getLogger("ps.server")


class Gate:
    """Of one server. Without keys everybody who reaches it gets in."""

    def __init__(self, process: ProcessConfig) -> None:
        """Read the keys. Raises ConfigError."""
        self._security = Security.of(process, "server")
        self._keys = KeyList(self._security)
        self.ask = self._keys.ask
        """Returns what this server says with its heartbeats, so as to know the scheduler's list."""

    def open_context(self) -> GuardedContext:
        """Return the context for this server's sockets."""
        return GuardedContext.of(self._security)

    def told(self, addresses: Iterable[str]) -> tuple[str, ...]:
        """Return addresses as others are told of them, with the key that they are to find there."""
        return tuple(map(self._security.told, addresses))

    def look(
        self, dial: Dial, incoming: Incoming, membership: Membership, inbox: Inbox, guard: DescriptorGuard | None
    ) -> list[Message]:
        """Look after the keys, now and then; return what the scheduler is asked. Raises KeyRefused."""
        if (refusal := dial.refusal(incoming, joined=membership.welcome is not None)) is not None:
            raise refusal
        if self._security.refresh():
            self._cut_off(self._keys.settle(), inbox, guard)
        if self._security.admission.wondering and membership.member:
            return self._keys.ask(membership.member)
        return []

    def hear(self, message: Keys, inbox: Inbox, guard: DescriptorGuard | None) -> None:
        """Take the scheduler's list."""
        self._cut_off(self._keys.hear(message), inbox, guard)

    def _cut_off(self, users: set[str], inbox: Inbox, guard: DescriptorGuard | None) -> None:
        if users and guard is not None:
            ended = inbox.end_unlisted(guard.accepted)
            log.warning("%d keys are let in no more, and %d connections are cut", len(users), ended)

    def part_from_the_gone(self, callers: Callers, view: View) -> None:
        """End the lines of those who are members no more: the kernel vouches for their user, and not for their key."""
        for line in callers.lines_of_the_gone({row[0] for row in view.members}):
            if line.listener is not None:
                line.listener.cut(line)
