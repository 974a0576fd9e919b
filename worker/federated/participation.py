"""FederatedParticipation: what a client says of its tasks to the scheduler, and of weights and deltas to the servers.

Generators as in ``ps.worker.conversation``. A client stays when servers go: one that was killed comes back as another
process, with what it has kept. So whatever is done with servers is begun again from the start when ServersMoved or
ServerLost is thrown where it was yielded: a pull is repeated, and an upload first asks what the servers have of it.

A delta is decided on by the scheduler, once all servers have it. Its verdict may be to ``resume``: a server has lost
its part, which is then sent again. Where servers take no more of it, as its round is over, it is submitted all the
same: it may have been decided on before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from ps.config.job import JobConfig
from ps.dataclass import dataclass
from ps.errors import BadMessage, PeerLost, ServerLost, ServersMoved
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import (
    Assign,
    Busy,
    Decline,
    Finished,
    Late,
    Message,
    Ok,
    Poll,
    Pull,
    Resume,
    Submit,
    Submitted,
    Unmask,
    Upload,
    UploadState,
    Wait,
    Weights,
)
from ps.secure.helped import Masks
from ps.secure.pairwise import PairwiseClient
from ps.worker.conversation import Call, Calls, Connect, FederatedConversation, Pause, Question
from ps.worker.federated.masked_participation import unmask
from ps.worker.seeding import seed
from ps.xp import HostArray

log = logging.getLogger("ps.worker")

Done = TypeVar("Done")

PULLS = 20
"""Times that all chunks are asked for until they are of one version, at most: new ones come out meanwhile."""
ACCEPTED, LATE, RESUME = "accepted", "late", "resume"
"""Verdicts: it counts; after its round; a server lost its part."""


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A delta on its way: for which task (with its token) and round, from which version on, a frame for each chunk."""

    task: int
    round: int
    version: int
    examples: float
    steps: int
    report: dict[str, Any]
    frames: Mapping[int, HostArray]
    token: int
    masks: Masks | None = None
    """What the frames are masked with, if they are: it is not kept on disk."""


class FederatedParticipation:
    """One client's conversations."""

    def __init__(
        self, job: JobConfig, layout: Layout, chunks: tuple[Chunk, ...], rank: int, member: Callable[[], int]
    ) -> None:
        """``chunks``: the layout's. ``member`` returns this client's id, which changes when it has to join again."""
        self.chunks = chunks
        self._job = job
        self._layout = layout
        self._rank = rank
        self._member = member

    # The scheduler

    def poll(self, version: int, report: Mapping[str, Any]) -> FederatedConversation[Assign | Wait | Finished]:
        """Offer this client for a round; return what it is to do."""
        answer: Message = yield Question(
            lambda request, member: Poll(request, member, version, dict(report)), Message, "a round to take part in"
        )
        if not isinstance(answer, Assign | Wait | Finished):
            raise BadMessage(f"the scheduler answered {answer!r} to a Poll")
        return answer

    def submit(self, upload: PendingUpload) -> FederatedConversation[str]:
        """Say that a delta is uploaded; return the verdict, or ``resume`` when a server has lost its part of it."""
        task, version, examples, steps = upload.task, upload.version, upload.examples, upload.steps
        report, token = dict(upload.report), upload.token
        answer: Message = yield Question(
            lambda request, member: Submit(request, member, task, version, examples, steps, report, token),
            Submitted if upload.masks is None else Message,
            "the verdict on this client's contribution",
        )
        if isinstance(answer, Unmask) and isinstance(upload.masks, PairwiseClient):
            return (yield from unmask(upload.masks, task, token, answer))
        if not isinstance(answer, Submitted):
            raise BadMessage(f"the scheduler answered {answer!r} to a Submit")
        return answer.verdict

    def decline(self, task: int, why: str) -> FederatedConversation[None]:
        """Give a task back."""
        yield Question(
            lambda request, member: Decline(request, member, task, why[:200]), Ok, "leave to give a task back"
        )

    # The servers

    def seed(self, values: HostArray) -> FederatedConversation[None]:
        """Send the first values, one flat buffer, to the servers, until the scheduler notes that all have them."""
        yield from self._with_servers(lambda: seed(self._member(), self._job, self._layout, self.chunks, values))

    def pull(self, version: int) -> FederatedConversation[int]:
        """Bring this client's weights to ``version``, or a later one; return which. All chunks are of one."""
        return (yield from self._with_servers(partial(self._pull, version)))

    def _pull(self, version: int) -> FederatedConversation[int]:
        versions: dict[int, int] = {}
        wanted = list(self.chunks)
        for _ in range(PULLS):
            make = partial(Pull, member=self._member(), clock=version, aside=False)
            calls = [Call(c.server, partial(make, chunk=c.index), None, c.region) for c in wanted]
            answers: list[Message] = yield Calls(f"version {version} of the model", calls, refreshes=True)
            versions.update({answer.chunk: answer.version for answer in answers if isinstance(answer, Weights)})
            version = max(versions.values())
            wanted = [chunk for chunk in self.chunks if versions[chunk.index] < version]
            if not wanted:
                return version
        raise PeerLost(f"the model changed {PULLS} times while it was pulled; is the network that slow?")

    def upload(self, task: int, round: int, frames: Mapping[int, HostArray], token: int) -> FederatedConversation[bool]:
        """Upload what the servers do not have yet; return whether it may still count."""
        return (yield from self._with_servers(partial(self._upload, task, round, frames, token)))

    def _upload(
        self, task: int, round: int, frames: Mapping[int, HostArray], token: int
    ) -> FederatedConversation[bool]:
        mine = {"member": self._member(), "task": task, "rank": self._rank, "token": token}
        resume = partial(Resume, **mine)
        calls = [Call(server, resume) for server in range(self._job.servers)]
        answers: list[Message] = yield Calls("what servers have of a delta", calls)
        known = {index for answer in answers if isinstance(answer, UploadState) for index in answer.chunks}
        missing = [chunk for chunk in self.chunks if chunk.index not in known]
        while missing:
            make = partial(Upload, round=round, **mine)
            calls = [Call(c.server, partial(make, chunk=c.index), frames[c.index], c.region) for c in missing]
            answers = yield Calls(f"task {task}", calls)
            if any(isinstance(answer, Late) for answer in answers):
                return False
            later = {answer.chunk: answer.seconds for answer in answers if isinstance(answer, Busy)}
            missing = [chunk for chunk in missing if chunk.index in later]
            if missing:
                yield Pause(max(later.values()))
        return True

    def contribute(self, upload: PendingUpload, verdict: str = RESUME) -> FederatedConversation[str]:
        """Upload what servers lack until there is a verdict other than ``resume``, which this begins with."""
        resumes = 0
        while verdict == RESUME:
            if resumes > 1:  # a server may claim what it has not
                yield Pause(1.0)
            resumes += 1
            here = yield from self.upload(upload.task, upload.round, upload.frames, upload.token)
            verdict = yield from self.submit(upload)  # also where servers take no more: it may be decided on already
            if not here and verdict == RESUME:
                verdict = LATE
        return verdict

    def _with_servers(self, work: Callable[[], FederatedConversation[Done]]) -> FederatedConversation[Done]:
        """Do some work with the servers, from the beginning if one of them is replaced meanwhile."""
        anew = False
        while True:
            try:
                yield Connect(anew)
                return (yield from work())
            except (ServersMoved, ServerLost) as error:
                log.warning("%s; connecting anew", error)
            yield Pause(1.0)
            anew = True
