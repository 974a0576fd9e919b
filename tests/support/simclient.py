"""SimClient: a client's script: it has the real conversations of a client, and may lie or vanish in them.

What it makes of a task depends on the task and its character alone, so that the invariants can work it out again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ps.config.job import JobConfig
from ps.errors import PSError
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import Assign, Consent, Finished, KeyOffer, KeyShares, Reveal, Upload
from ps.secure.identity import ThrowawaySigner, anybody
from ps.secure.sums import SumHistory
from ps.secure.weights import digest_of
from ps.worker.conversation import Calls, FederatedConversation, Pause, Question
from ps.worker.federated.delta_masker import DeltaMasker
from ps.worker.federated.masked_participation import agree
from ps.worker.federated.participation import FederatedParticipation, PendingUpload

MODEL = Layout.of(
    {"w": np.zeros((7, 5)), "b": np.zeros(9), "seen": np.zeros(3), "count": np.zeros(2, np.int64)},
    {"seen": "buffer", "count": "counter"},
)
HONEST, SHIRKER, FADER = "honest", "shirker", "fader"
"""Shirkers decline now and then, faders vanish between two chunks."""
LIARS = ("nan", "huge", "short", "greedy", "tireless", "modest")
"""NaN in the delta, a norm out of all proportion, frames of the wrong size, claims of 1e12 examples, of 1e11 steps, and
of a negative number of examples."""


OF_MASKS = KeyOffer | KeyShares | Consent | Reveal


class Vanished(Exception):
    """The client's process has died."""


@dataclass
class Work:
    """What a client made of a task."""

    rank: int
    parts: dict[int, Any]
    examples: float
    steps: int


@dataclass
class SimClient:
    """One process of a client; ``done`` tells which verdicts it heard."""

    member: int
    rank: int
    character: str
    job: JobConfig
    layout: Layout
    seed: int
    works: dict[int, Work]
    """Task -> what was made of it, of all clients."""
    job_id: str = ""
    signer: ThrowawaySigner | None = None
    """Its identity, if that outlives its process."""
    told: SumHistory | None = None
    """In which sums it has been, if that does."""
    finished: bool = False
    heard: list[tuple[int, str]] = field(default_factory=list)
    verdict_since: float | None = None

    def life(self) -> FederatedConversation[None]:
        chunks = self.layout.chunks(self.job.servers, self.job.chunk_bytes)
        part = FederatedParticipation(self.job, self.layout, chunks, self.rank, lambda: self.member)
        masked, masks = self.job.secure != "none", None
        about = self.job, chunks, self.job_id, self.signer or ThrowawaySigner(), anybody
        masker = DeltaMasker(*about, told=self.told) if masked else None
        while True:
            answer = yield from part.poll(0, {})
            if isinstance(answer, Finished):
                self.finished = True
                return
            if not isinstance(answer, Assign):
                yield Pause(answer.seconds)
                continue
            task, round = answer.task, answer.round
            chance = random.Random(f"{self.seed}/{self.rank}/{task}/{self.character}")
            version = yield from part.pull(round)
            if masker is not None:
                masks = masker.begin(task, round, self.rank, digest_of(version, ()))
                if (yield from self._fading(agree(masks, task, answer.token), chance)):
                    continue
            if self.character == SHIRKER and chance.random() < 0.5:
                yield from part.decline(task, "tired")
                continue
            work = self.works.setdefault(task, self._train(part.chunks, task, chance))
            assert work.rank == self.rank, f"task {task} was given to two clients"
            yield Pause(chance.random() * 3)
            frames = {index: self._frame(values) for index, values in work.parts.items()}
            about = task, round, version, work.examples, work.steps, {"loss": 1.0}
            if masker is not None and masks is not None:
                frames = masker.frames(frames, 1.0, round, masks)
            upload = PendingUpload(*about, frames, answer.token, masks)
            self.heard.append((task, (yield from self._fading(part.contribute(upload), chance))))

    def _fading(self, conversation: FederatedConversation[str], chance: random.Random) -> FederatedConversation[str]:
        """Have a conversation, and vanish in the middle of it if that is this client's character."""
        answer: Any = None
        lost: PSError | None = None
        while True:
            try:
                asked = conversation.send(answer) if lost is None else conversation.throw(lost)
            except StopIteration as end:
                return str(end.value)
            uploads = isinstance(asked, Calls) and isinstance(asked.calls[0].make(0), Upload)
            masks = isinstance(asked, Question) and isinstance(asked.make(0, 0), OF_MASKS)
            if self.character == FADER and ((uploads and chance.random() < 0.3) or (masks and chance.random() < 0.1)):
                raise Vanished
            try:
                answer, lost = (yield asked), None
            except PSError as error:
                answer, lost = None, error

    def _train(self, chunks: tuple[Chunk, ...], task: int, chance: random.Random) -> Work:
        rng = np.random.default_rng((self.seed, self.rank, task))
        parts = {}
        for chunk in chunks:
            values = rng.normal(size=chunk.size) if chunk.dtype != "int64" else rng.integers(0, 9, chunk.size)
            parts[chunk.index] = values.astype(chunk.dtype)
        examples, steps = float(rng.integers(1, 40)), int(rng.integers(1, 6))
        first = next(chunk.index for chunk in chunks if chunk.dtype != "int64")
        if self.character == "nan":
            parts[first][-1] = np.nan
        if self.character == "huge":
            parts[first] *= 1e5
        examples = {"greedy": 1e12, "modest": -3.0}.get(self.character, examples)
        return Work(self.rank, parts, examples, 10**11 if self.character == "tireless" else steps)

    def _frame(self, values: np.ndarray) -> np.ndarray:
        frame = values.view(np.uint8)
        return frame[:-1] if self.character == "short" else frame


def honest(count: int) -> list[str]:
    """The characters of so many honest clients."""
    return [HONEST] * count
