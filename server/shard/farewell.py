"""Farewell: when a server that was asked to end does so: at once, or once its job's last checkpoint is made."""

from __future__ import annotations

from ps import sigterm
from ps.protocol.membership import Membership
from ps.server.shard.checkpointing import ShardCheckpointing

SPARE = 0.1
"""The part of the grace that is left for the end itself: less than the scheduler leaves, which says what is whole."""
SILENT = 3.0
"""Seconds after which nobody counts on a scheduler that would have a checkpoint made."""
QUIET = 2.0
"""Seconds without an order for another one after which one that became whole meanwhile is good enough: a scheduler that
was not asked to end does not say which is the last."""


class Farewell:
    """What was whole when this process was asked to end, and for how long it may go on."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._until: float | None = None
        self._whole = 0
        self._quiet_since: float | None = None

    def check(self, saving: ShardCheckpointing, membership: Membership, now: float) -> None:
        """Raise SystemExit if this process was asked to end, and nothing is left to be done before."""
        if not (status := sigterm.status()):
            return
        if self._until is None:
            self._until, self._whole = now + (1 - SPARE) * self._grace, saving.whole
        if saving.whole == self._whole or saving.is_under_way:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        is_made = self._quiet_since is not None and now - self._quiet_since >= QUIET
        waits = saving.awaited and not saving.is_last and not is_made and membership.silence(now) < SILENT
        if not waits or now > self._until:
            raise SystemExit(status)
