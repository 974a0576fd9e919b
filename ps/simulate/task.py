"""What a simulated client is asked for (TrainingTask) and what it made (TrainingResult), between processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from ps.xp import HostArray


class TrainingTask(NamedTuple):
    """One client's training in ``round``, from ``version`` of the weights on. ``ticket`` is a number of its own."""

    client: int
    ticket: int
    round: int
    version: int
    evaluate: bool = False


class TrainingResult(NamedTuple):
    """What came of a task: a frame for each chunk, as the job's codec has it, and what the client says of it.

    ``declined`` is why there is none.
    """

    ticket: int
    examples: float
    steps: int
    report: dict[str, float]
    frames: tuple[HostArray, ...]
    declined: str = ""


def pack(results: Sequence[TrainingResult]) -> tuple[list[Any], list[HostArray]]:
    """Return results as plain values, a row for each, and all their frames."""
    rows = [[r.ticket, r.examples, r.steps, r.report, len(r.frames), r.declined] for r in results]
    return rows, [frame for result in results for frame in result.frames]


def unpack(rows: Sequence[Sequence[Any]], frames: Iterable[HostArray]) -> list[TrainingResult]:
    """Return the results that ``pack`` was given."""
    left = iter(frames)
    return [
        TrainingResult(ticket, examples, steps, report, tuple(islice(left, count)), declined)
        for ticket, examples, steps, report, count, declined in rows
    ]
