"""What a simulated client is asked for (TrainingTask) and what it made (TrainingResult), between processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from ps.simulate.result_memory import ResultMemory, ResultPlaces
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


def pack(
    results: Sequence[TrainingResult], places: Mapping[int, int], memory: ResultPlaces
) -> tuple[list[Any], list[HostArray]]:
    """Return results as plain values, a row for each, and the frames of those that are not in ``memory`` then.

    ``places``: ticket -> its place there.
    """
    rows: list[Any] = []
    left: list[HostArray] = []
    for r in results:
        place = places.get(r.ticket, -1)
        there = memory.put(place, r.frames)
        rows.append([r.ticket, r.examples, r.steps, r.report, [f.nbytes for f in r.frames], r.declined, place, there])
        if not there:
            left += r.frames
    return rows, left


def unpack(rows: Sequence[Sequence[Any]], frames: Iterable[HostArray], memory: ResultMemory) -> list[TrainingResult]:
    """Return the results that ``pack`` was given; their places are free again when nobody has their frames."""
    left, found = iter(frames), []
    for ticket, examples, steps, report, sizes, declined, place, there in rows:
        if there:
            own = memory.read(place, sizes)
        else:
            own = tuple(islice(left, len(sizes)))
            memory.give_back(place)
        found.append(TrainingResult(ticket, examples, steps, report, own, declined))
    return found
