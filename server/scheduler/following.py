"""Following: what somebody is told who is to read a job's model without being a member of it. Nothing is kept of whom.

The servers see for themselves that the scheduler has given leave, by the job's key.
"""

from __future__ import annotations

from ps.protocol.layout import Layout
from ps.protocol.messages import Followed, FollowRequest, Packed
from ps.protocol.ranges import MOST_RANK
from ps.server.job_key import random_id
from ps.server.scheduler.state import SchedulerState


class Following:
    """Answers followers; a layout, which may be long, is packed once."""

    def __init__(self) -> None:
        self._packed: tuple[Layout, Packed] | None = None

    def answer(self, state: SchedulerState, message: FollowRequest) -> Followed:
        """Return how the job is, and the servers once they hold its model."""
        view, key, follower = state.view(), state.key, random_id()
        layout = state.seeding.layout if state.seeding.done else None
        most = state.setting("servers") if state.setting("replicas") else MOST_RANK  # those beyond are standbys
        return Followed(
            message.request,
            key.job_id,
            follower,
            key.leave(follower),
            view.phase,
            view.reason,
            view.job,
            tuple(member for member in view.members if member[1] == "server" and member[2] < most),
            () if layout is None else self._pack(layout),
        )

    def _pack(self, layout: Layout) -> Packed:
        if self._packed is None or self._packed[0] is not layout:
            self._packed = layout, layout.pack()
        return self._packed[1]
