"""What a simulated client is asked for (TrainingTask) and what it made (TrainingResult), between processes."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack
import numpy as np

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

    def pack(self) -> bytes:
        """Return the result as a message."""
        frames = [frame.data for frame in self.frames]
        return pack("result", self.ticket, self.examples, self.steps, self.report, frames, self.declined)

    @classmethod
    def of(cls, values: list[Any]) -> TrainingResult:
        """Return the result that a message's values are; its frames are views of them."""
        ticket, examples, steps, report, frames, declined = values
        arrays = tuple(np.frombuffer(frame, np.uint8) for frame in frames)
        return cls(ticket, examples, steps, report, arrays, declined)


def pack(kind: str, *values: Any) -> bytes:
    """Return a message between the simulation and one of its processes: its kind, and plain values or bytes."""
    return bytes(msgpack.packb((kind, *values)))


def unpack(data: bytes) -> tuple[str, list[Any]]:
    """Return a message's kind and values."""
    kind, *values = msgpack.unpackb(data, strict_map_key=False)
    return kind, values
