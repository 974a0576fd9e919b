"""Messages about checkpoints: the scheduler and the members whose parts they are made of, and whoever asks for one."""

from __future__ import annotations

from typing import Annotated

from ps.protocol.messages.base import Message, message
from ps.protocol.messages.words import OrderedCut, PartState
from ps.protocol.ranges import AtMost, Count, CountOrNone, Member, Number, Plain, Prose

Folder = Annotated[str, AtMost(40)]
"""A checkpoint's folder in that of the job."""


@message(110)
class CheckpointOrder(Message):
    """What the scheduler wants of the cut with this ``number``; said again until the member's CheckpointPart shows it.

    ask: say where you are. mark: have your part of the model as it is after ``clock`` written into ``folder``, or,
    where steps are applied one by one, as it is now. drop: it is given up. done: the checkpoint is whole.
    last: that was the last one, whatever became of it; who is asked to end needs not wait for another.
    """

    number: Number
    phase: OrderedCut
    clock: Count
    folder: Folder


@message(111)
class CheckpointPart(Message):
    """Where a member is with the cut ``number``: its chunks have done ``low`` to ``high`` clocks.

    ``why`` is said where it has failed. ``about``: what a worker says of itself, for the manifest.
    """

    member: Member
    number: Number
    state: PartState
    low: Count
    high: Count
    why: Prose
    about: Plain


@message(112, answers=("CheckpointMade",))
class CheckpointRequest(Message):
    """Anybody asks for a checkpoint, now. The answer comes when it is made; one that is under way is as good.

    ``last``: workers are about to be ended, so it is made of what the servers have, wherever workers are.
    """

    request: Number
    last: bool


@message(113)
class CheckpointMade(Message):
    """The newest whole checkpoint is that of ``step``, -1 for none, in ``folder``; ``why`` another one failed."""

    request: Number
    step: CountOrNone
    folder: Folder
    why: Prose
