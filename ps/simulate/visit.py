"""Visit: what a simulated client says from a poll to the verdict: a real client's conversations, with no real time."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias

from ps.dataclass import dataclass
from ps.protocol.messages import Assign, Finished
from ps.secure.weights import digest_of
from ps.simulate.task import TrainingResult
from ps.worker.conversation import FederatedAsked
from ps.worker.federated.delta_masker import DeltaMasker
from ps.worker.federated.masked_participation import agree
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


def visit(part: FederatedParticipation, version: int, rank: int = 0, masker: DeltaMasker | None = None) -> Visit:
    """Offer a client, whose weights are of ``version``, for a round, and do what it is told.

    ``masker``: what its deltas are masked with, if they are.
    """
    answer = yield from part.poll(version, {})
    if not isinstance(answer, Assign):
        return Visited(seconds=None if isinstance(answer, Finished) else answer.seconds)
    version, masks = (yield from part.pull(answer.round)), None
    if masker is not None:  # what is pulled has no bytes here: one copy of the weights is everybody's
        masks = masker.begin(answer.task, answer.round, rank, digest_of(version, ()))
        if verdict := (yield from agree(masks, answer.task, answer.token)):
            return Visited(verdict)
    result: TrainingResult = yield Train(version)
    if result.declined:
        yield from part.decline(answer.task, result.declined)
        return Visited(DECLINED)
    task, round, frames = answer.task, answer.round, dict(enumerate(result.frames))
    if masker is not None and masks is not None:
        frames = masker.frames(frames, result.examples, round, masks)
        upload = PendingUpload(task, round, version, 1.0, 1, {}, frames, answer.token, masks)
    else:
        about = task, round, version, result.examples, result.steps, result.report
        upload = PendingUpload(*about, frames, answer.token)
    return Visited((yield from part.contribute(upload)))
