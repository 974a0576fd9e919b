"""Messages of the federated mode: clients and the scheduler about tasks, clients and servers about deltas, and the
scheduler and servers about rounds."""

from __future__ import annotations

from typing import Any

from ps.protocol.messages.base import Amount, Message, Natural, message
from ps.protocol.messages.words import Defect, OrderPhase, Ruling, ShardPhase

COMPARED = 3
"""Contributions that the scheduler must have seen before one can be told to be unusual: servers have room for so many.
"""

Entries = tuple[tuple[int, float, float, float], ...]
"""A part of a round's ledger: (task, weight, scale, bound); a weight of 0 means that the contribution is dropped."""

Notes = tuple[tuple[int, Amount, Defect], ...]
"""What a server has of contributions: (task, squared L2 norm of its share, what is wrong with it or nothing)."""


@message(17)
class Poll(Message):
    """A client offers itself; its weights are of ``version``, -1 for none. ``report`` is shown in the status."""

    request: int
    member: int
    version: int
    report: dict[str, Any]


@message(18)
class Wait(Message):
    """There is nothing to do: come back in ``seconds``. ``version`` rounds are published."""

    request: int
    version: int
    seconds: float


@message(19)
class Assign(Message):
    """Take part in a round: pull the weights of version ``round``, train, upload, submit, all in ``seconds``.

    ``evaluate`` asks for the client's own evaluation, before and after its training.
    """

    request: int
    task: int
    round: int
    seconds: float
    evaluate: bool


@message(20)
class Finished(Message):
    """All rounds are done; ``version`` is the final one."""

    request: int
    version: int


@message(21)
class Submit(Message):
    """A client has uploaded the delta of a task, trained from ``version`` on so many examples in so many steps."""

    request: int
    member: int
    task: int
    version: int
    examples: float
    steps: int
    report: dict[str, Any]


@message(22)
class Submitted(Message):
    """Whether a contribution counts: ``accepted``, or the reason why it does not."""

    request: int
    task: int
    verdict: Ruling


@message(23)
class Decline(Message):
    """A client gives a task back."""

    request: int
    member: int
    task: int
    why: str


@message(52, answers=("Stored", "Busy", "Late"))
class Upload(Message):
    """A client's delta for one chunk, as the job's codec has it. ``rank`` is the client's number."""

    payload = True
    request: int
    member: int
    task: int
    round: Natural
    rank: Natural
    chunk: int


@message(53)
class Stored(Message):
    """A server holds this chunk of the contribution."""

    request: int
    task: int
    chunk: int


@message(54)
class Busy(Message):
    """A server has no room for one more contribution now: upload the chunk again in ``seconds``."""

    request: int
    chunk: int
    seconds: float


@message(55, answers=("UploadState",))
class Resume(Message):
    """A client that was cut off asks which of its chunks a server has."""

    request: int
    member: int
    task: int


@message(56)
class UploadState(Message):
    """The chunks of a task that a server has."""

    request: int
    task: int
    chunks: tuple[int, ...]


@message(24)
class RoundOrder(Message):
    """What the scheduler wants a server to have done; said again until the server's RoundStatus shows it.

    ``version`` is the published one and ``attempt`` numbers the tries at the round after it. ``entries`` are those of
    the ledger from number ``first`` on. ``phase`` is how far the round may go: collect, measure, prepare, publish. The
    combination has ``count`` contributions; ``weights`` are theirs where a rule made them from distances; it is
    multiplied with ``factor``, that of control variates with ``share``. Tasks below ``floor`` are over.
    """

    large = True
    version: int
    attempt: int
    floor: int
    phase: OrderPhase
    first: int
    entries: Entries
    count: int
    weights: tuple[float, ...]
    factor: float
    share: float


@message(25)
class RoundStatus(Message):
    """Where a server stands: its published version, its attempt, how far that is, and the entries it has counted.

    ``staged`` are contributions that are complete and not in the ledger yet. ``durable``: what it holds outlives it.
    """

    large = True
    member: int
    version: int
    attempt: int
    phase: ShardPhase
    folded: int
    durable: bool
    staged: Notes


@message(26)
class Distances(Message):
    """The pairwise squared distances of a server's shares of the first ``count`` contributions: float64, row by row."""

    payload = True
    member: int
    attempt: int
    count: int
