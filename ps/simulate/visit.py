"""Visit: what a simulated client says from a poll to the verdict: a real client's conversations, with no real time."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias

from ps.dataclass import dataclass
from ps.protocol.messages import Assign, Finished
from ps.simulate.task import TrainingResult
from ps.worker.conversation import FederatedAsked
from ps.worker.federated.participation import FederatedParticipation, PendingUpload

DECLINED = "declined"


@dataclass(frozen=True, slots=True)
class Train:
    """Have the task trained that was assigned, from ``version`` of the weights on; the answer is a TrainingResult."""

    version: int


@dataclass(frozen=True, slots=True)
class Visited:
    """What came of a visit: the verdict on a contribution, if there was one, and after how many seconds to come again.

    It is None when all rounds are done.
    """

    verdict: str = ""
    seconds: float | None = 0.0


Visit: TypeAlias = Generator[FederatedAsked | Train, Any, Visited]


def visit(part: FederatedParticipation, version: int) -> Visit:
    """Offer a client, whose weights are of ``version``, for a round, and do what it is told."""
    answer = yield from part.poll(version, {})
    if not isinstance(answer, Assign):
        return Visited(seconds=None if isinstance(answer, Finished) else answer.seconds)
    version = yield from part.pull(answer.round)
    result: TrainingResult = yield Train(version)
    if result.declined:
        yield from part.decline(answer.task, result.declined)
        return Visited(DECLINED)
    about = answer.task, answer.round, version, result.examples, result.steps, result.report
    upload = PendingUpload(*about, dict(enumerate(result.frames)), answer.token)
    return Visited((yield from part.contribute(upload)))
