"""Messages of the federated mode: clients and the scheduler about tasks, clients and servers about deltas, and the
scheduler and servers about rounds."""

from __future__ import annotations

from typing import Annotated

from ps.number import MOST_COMBINED
from ps.protocol.messages.base import Message, message
from ps.protocol.messages.words import Defect, OrderPhase, Ruling, ShardPhase
from ps.protocol.ranges import (
    MOST_ENTRIES,
    MOST_HELD,
    MOST_NOTES,
    AtMost,
    Chunk,
    Count,
    CountOrNone,
    Finite,
    Member,
    Number,
    Prose,
    Random,
    Rank,
    Report,
    Seconds,
    Squares,
    Weight,
)

COMPARED = 3
"""Contributions that the scheduler must have seen before one can be told to be unusual: servers have room for so many.
"""

Entries = Annotated[tuple[tuple[Number, Weight, Weight, Weight], ...], AtMost(MOST_ENTRIES)]
"""A part of a round's ledger: (task, weight, scale, bound); a weight of 0 means that the contribution is dropped."""

Notes = Annotated[tuple[tuple[Number, Squares, Defect], ...], AtMost(MOST_NOTES)]
"""What a server has of contributions: (task, squared L2 norm of its share, what is wrong with it or nothing)."""

Chunks = Annotated[tuple[Chunk, ...], AtMost(MOST_HELD)]
Factors = Annotated[tuple[Finite, ...], AtMost(MOST_COMBINED)]


@message(17)
class Poll(Message):
    """A client offers itself; its weights are of ``version``, -1 for none. ``report`` is shown in the status."""

    request: Number
    member: Member
    version: CountOrNone
    report: Report


@message(18)
class Wait(Message):
    """There is nothing to do: come back in ``seconds``. ``version`` rounds are published."""

    request: Number
    version: Count
    seconds: Seconds


@message(19)
class Assign(Message):
    """Take part in a round: pull the weights of version ``round``, train, upload, submit, all in ``seconds``.

    ``evaluate`` asks for the client's own evaluation, before and after its training. ``token`` proves to servers and
    scheduler that the task is this client's.
    """

    request: Number
    task: Number
    round: Count
    seconds: Seconds
    evaluate: bool
    token: Random = 0


@message(20)
class Finished(Message):
    """All rounds are done; ``version`` is the final one."""

    request: Number
    version: Count


@message(21)
class Submit(Message):
    """A client has uploaded the delta of a task, trained from ``version`` on so many examples in so many steps."""

    request: Number
    member: Member
    task: Number
    version: Count
    examples: Weight
    steps: Number
    report: Report
    token: Random = 0


@message(22)
class Submitted(Message):
    """Whether a contribution counts: ``accepted``, or the reason why it does not."""

    request: Number
    task: Number
    verdict: Ruling


@message(23)
class Decline(Message):
    """A client gives a task back."""

    request: Number
    member: Member
    task: Number
    why: Prose


@message(52, answers=("Stored", "Busy", "Late"))
class Upload(Message):
    """A client's delta for one chunk, as the job's codec has it. ``rank`` is the client's number."""

    payload = True
    request: Number
    member: Member
    task: Number
    round: Count
    rank: Rank
    chunk: Chunk
    token: Random = 0


@message(53)
class Stored(Message):
    """A server holds this chunk of the contribution."""

    request: Number
    task: Number
    chunk: Chunk


@message(54)
class Busy(Message):
    """A server has no room for one more contribution now: upload the chunk again in ``seconds``."""

    request: Number
    chunk: Chunk
    seconds: Seconds


@message(55, answers=("UploadState",))
class Resume(Message):
    """A client that was cut off asks which of its chunks a server has."""

    request: Number
    member: Member
    task: Number
    rank: Rank
    token: Random = 0


@message(56)
class UploadState(Message):
    """The chunks of a task that a server has, or the first of them: others that are uploaded again count once."""

    request: Number
    task: Number
    chunks: Chunks


@message(24)
class RoundOrder(Message):
    """What the scheduler wants a server to have done; said again until the server's RoundStatus shows it.

    ``version`` is the published one and ``attempt`` numbers the tries at the round after it. ``entries`` are those of
    the ledger from number ``first`` on. ``phase`` is how far the round may go: collect, measure, prepare, publish. The
    combination has ``count`` contributions; ``weights`` are theirs where a rule made them from distances; it is
    multiplied with ``factor``, that of control variates with ``share``. Tasks below ``floor`` are over. With
    differential privacy ``clip`` is what norms are held to in this attempt, and ``noise`` the standard deviation for
    their sum; where noise is correlated it is that of release ``row`` of a ``sequence``.
    """

    large = True
    version: Count
    attempt: Count
    floor: Number
    phase: OrderPhase
    first: Count
    entries: Entries
    count: Count
    weights: Factors
    factor: Finite
    share: Weight
    clip: Weight = 0.0
    noise: Weight = 0.0
    sequence: Count = 0
    row: Count = 0


@message(25)
class RoundStatus(Message):
    """Where a server stands: its published version, its attempt, how far that is, and the entries it has counted.

    ``staged`` are contributions that are complete and not in the ledger yet. ``durable``: what it holds outlives it.
    """

    large = True
    member: Member
    version: Count
    attempt: Count
    phase: ShardPhase
    folded: Count
    durable: bool
    staged: Notes


@message(26)
class Distances(Message):
    """The pairwise squared distances of a server's shares of the first ``count`` contributions: float64, row by row."""

    payload = True
    member: Member
    attempt: Count
    count: Count
