"""Messages about which worker gets which batches: between workers and the scheduler."""

from __future__ import annotations

from typing import Annotated

from ps.protocol.messages.base import Message, message
from ps.protocol.messages.words import LeaseState, LeaseWait
from ps.protocol.ranges import AtMost, Count, Member, Number

MOST_RUNS = 1000
Runs = Annotated[tuple[tuple[Count, Count, Count], ...], AtMost(MOST_RUNS)]
"""Batches by number: (the first, how far it is to the next, how many)."""


@message(140, answers=("Lease",))
class LeaseRequest(Message):
    """A worker wants batches of its ``course``-th call of ``kv.batches``, counted from 0, of ``epochs`` epochs.

    ``grid``: into how many shares it would cut an epoch, and then the call has so many ``cells``. It has used ``used``
    of those that it was given, the next step is that of ``clock``, and it would like ``want``, 0 if it does not know.
    ``wait``: no, be told at once; here or aside, once there are some, or all are used, while servers wait for it, or do
    not; back, it gives back what it has not used.
    """

    request: Number
    member: Member
    course: Count
    examples: Count
    batch: Count
    epochs: Count
    grid: Count
    cells: Count
    used: Count
    clock: Count
    want: Count
    wait: LeaseWait


@message(141)
class Lease(Message):
    """In the state ``cells`` these batches are the worker's, to be used in this order, of an epoch cut by ``grid``.

    none: there are none at this time, and others hold some. end: all are used. aside: others need more steps than
    this worker has batches for, so it is to have servers not wait for it, and ask again. ``left``: how many there may
    still be for it.
    """

    request: Number
    state: LeaseState
    grid: Count
    left: Count
    runs: Runs
