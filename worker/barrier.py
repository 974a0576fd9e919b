"""Barrier: all live workers meet, by way of the scheduler, and hear with which clock they go on."""

from __future__ import annotations

from ps.protocol.messages import BarrierEnter, BarrierLeave
from ps.worker.conversation import Conversation, Question


def meet(clock: int) -> Conversation[int]:
    """Wait for all live workers; return the highest clock among them."""
    leave: BarrierLeave = yield Question(
        lambda request, member: BarrierEnter(request, member, clock), BarrierLeave, "all workers at the barrier"
    )
    return leave.clock
