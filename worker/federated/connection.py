"""FederatedConnection: has a client's conversations over its session's connections.

Whatever is lost on the way is said again, an upload goes on where it broke off, and a server that comes back as another
process is connected to anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from ps.errors import PSError, ServerLost, ServersMoved
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import Assign, Finished, Message, Wait
from ps.secure.helped import Masks
from ps.worker.batch import Batch
from ps.worker.conversation import Connect, FederatedAsked, FederatedConversation, Pause, Question
from ps.worker.federated.masked_participation import agree
from ps.worker.federated.participation import RESUME, FederatedParticipation, PendingUpload
from ps.worker.landing import Landing
from ps.worker.seeding import claim
from ps.worker.server_channels import ToShare
from ps.worker.session import Session
from ps.worker.traffic import Traffic
from ps.xp import HostArray

Answered = TypeVar("Answered")


class FederatedConnection:
    """One client's way to the scheduler and the servers."""

    def __init__(self, session: Session, layout: Layout, traffic: Traffic) -> None:
        self._session = session
        self._layout = layout
        self.traffic = traffic
        job = session.job
        chunks = layout.cut(job)
        self._part = FederatedParticipation(job, layout, chunks, session.rank, lambda: session.member)

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """How the model is cut."""
        return self._part.chunks

    def claim(self) -> bool:
        """Return whether this client's first values count. Raises LayoutMismatch if the job trains another model."""
        return self._run(claim(self._layout))

    def poll(self, version: int, report: Mapping[str, Any]) -> Assign | Wait | Finished:
        """Offer this client for a round; return what it is to do."""
        return self._run(self._part.poll(version, report))

    def agree(self, masks: Masks, task: int, token: int) -> str:
        """Have masks in common with others; return nothing, or the verdict where it came to nothing."""
        return self._run(agree(masks, task, token))

    def decline(self, task: int, why: str) -> None:
        """Give a task back."""
        self._run(self._part.decline(task, why))

    def seed(self, values: HostArray) -> None:
        """Send the first values, one flat buffer, to the servers, until the scheduler notes that all have them."""
        self._run(self._part.seed(values))

    def pull(self, version: int, into: HostArray) -> int:
        """Bring a flat buffer to the weights of ``version``, or a later one; return which. All chunks are of one."""
        return self._run(self._part.pull(version), into)

    def upload(self, task: int, round: int, frames: Mapping[int, HostArray], token: int) -> bool:
        """Upload what the servers do not have yet; return whether it may still count."""
        return self._run(self._part.upload(task, round, frames, token))

    def submit(self, upload: PendingUpload) -> str:
        """Say that a delta is uploaded; return the verdict, or ``resume`` when a server has lost its part of it."""
        return self._run(self._part.submit(upload))

    def contribute(self, upload: PendingUpload, verdict: str = RESUME) -> str:
        """Upload what servers lack until there is a verdict other than ``resume``, which this begins with."""
        return self._run(self._part.contribute(upload, verdict))

    def connect(self, *, anew: bool = False) -> None:
        """Connect to the servers, anew if one was replaced."""
        if anew or self._session.moved:
            self._session.disconnect()
        if not self._session.connected:
            self._session.connect(self.traffic, ToShare(self._layout.nbytes))

    def _run(self, conversation: FederatedConversation[Answered], into: HostArray | None = None) -> Answered:
        """Have a conversation; weights that it asks for land in the flat buffer ``into``."""
        answer: Any = None
        lost: PSError | None = None
        try:
            while True:
                asked = conversation.send(answer) if lost is None else conversation.throw(lost)
                answer, lost = None, None
                try:
                    answer = self._do(asked, into)
                except (ServersMoved, ServerLost) as error:
                    lost = error
        except StopIteration as end:
            answered: Answered = end.value
            return answered

    def _do(self, asked: FederatedAsked, into: HostArray | None) -> Message | list[Message] | None:
        match asked:
            case Question():
                return self._session.ask(asked.make, asked.kind, asked.waiting)
            case Pause():
                self._session.pause(asked.seconds)
                return None
            case Connect():
                self.connect(anew=asked.anew)
                return None
        exchange = self._session.exchange
        batch = Batch(asked.label, Landing(into, self.traffic) if asked.refreshes else None)
        exchange.submit_all(batch, asked.calls)
        exchange.wait(batch)
        return batch.answers
