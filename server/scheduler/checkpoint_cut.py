"""CheckpointCut: a cut of a job's checkpoints: its clock, its members, what is still awaited, and how it is sealed."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from ps.dataclass import dataclass
from ps.protocol.messages.words import OrderedCut
from ps.server.scheduler.member_record import MemberRecord


@dataclass(frozen=True, slots=True)
class CutNames:
    """What a restarted scheduler has to know, so that it gives no name and no number twice.

    ``number``: of the last cut that members were to mark; ``highest``: the highest clock of one; ``under_way``: whether
    there is one. ``is_last``: whether the last worker has left, and ``failed``: for want of anything better.
    """

    number: int = 0
    highest: int = -1
    under_way: bool = False
    is_last: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Seal:
    """A checkpoint of which all is written but the manifest. ``workers``: rank -> what it says of itself.

    ``only_end``: the checkpoint is there already, and it is to be noted that the job has ended with it.
    """

    number: int
    step: int
    folder: str
    servers: tuple[int, ...]
    workers: dict[int, dict[str, Any]]
    ended: bool = False
    only_end: bool = False


@dataclass(slots=True)
class CheckpointCut:
    """A cut under way. ``awaited``: the members that are still to do what they were told last."""

    number: int
    phase: OrderedCut | str
    since: float
    awaited: dict[int, MemberRecord]
    members: dict[int, MemberRecord]
    clock: int = 0
    folder: str = ""
    alone: bool = False
    """Whether it is made of what servers have, wherever workers are."""
    planned: bool = False
    """Whether its clock may be far ahead: nobody waits for it."""
    final: bool = False
    """Whether the job ends with it."""
    told: float = 0.0
    low: int | None = None
    high: int = 0
    tries: int = 0
    workers: dict[int, dict[str, Any]] = field(default_factory=dict)
