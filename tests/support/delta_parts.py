"""Made-up jobs, chunks, tasks and messages for the tests beside this file."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps.config.job import JobConfig
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import Init, InitChunk, Message, Resume, RoundOrder, RoundStatus, Upload
from ps.server.scheduler.rounds.task import SUBMITTED, Task
from ps.server.send import SCHEDULER, Send
from ps.server.shard.federated_shard import FederatedShard
from ps.state_file import StateFile
from support.identity import KEY, with_token

MODEL = Layout.of(
    {"w": np.zeros(6, np.float32), "seen": np.zeros(2, np.float32), "count": np.zeros(1, np.int64)},
    {"seen": "buffer", "count": "counter"},
)
"""Three chunks: 0 is trainable, 1 a buffer, 2 a counter."""


def job_of(**settings: Any) -> JobConfig:
    """A federated job of four clients and one server."""
    return JobConfig.from_dict({"mode": "federated", "workers": 4, "chunk_size": 1024, **settings})


def chunks_of(layout: Layout = MODEL, job: JobConfig | None = None, rank: int = 0) -> dict[int, Chunk]:
    """The chunks of one server."""
    job = job or job_of()
    return {c.index: c for c in layout.chunks(job.servers, job.chunk_bytes) if c.server == rank}


def task_of(number: int = 1, **fields: Any) -> Task:
    """A submitted contribution with norm 5 over two servers."""
    values = {"state": SUBMITTED, "examples": 10.0, "steps": 4, "shares": {0: 9.0, 1: 16.0}, **fields}
    return Task(number, 100 + number, number, values.pop("round", 0), 0.0, **values)


def parts_of(value: float, chunks: dict[int, Chunk] | None = None) -> dict[int, Any]:
    """A delta that is the same everywhere; there are no NaN in counters."""
    made = (chunks or chunks_of()).items()
    return {i: np.full(c.size, 0 if c.kind == "counter" and value != value else value, c.dtype) for i, c in made}


class Hand:
    """One FederatedShard that is spoken to by hand."""

    def __init__(self, job: JobConfig | None = None, path: str | None = None, layout: Layout = MODEL) -> None:
        self.job = job or job_of()
        self.layout = layout
        self.state_file = StateFile(path)
        self.shard = FederatedShard(0, self.job, KEY, self.state_file, member=1)
        self.now = 0.0
        self.to_scheduler: list[Send] = []
        """What was said to the scheduler and not looked at yet."""

    def begin(self) -> Hand:
        """Bring the model, all 0."""
        self.say(Init(1, 9, self.job.servers, self.job.chunk_bytes, self.layout.pack()))
        for index, state in self.shard.chunks.items():
            self.say(InitChunk(1, 9, index), bytes(state.chunk.nbytes))
        return self

    def say(self, message: Message, payload: bytes | None = None) -> Message:
        """Return the one answer. Whoever says something about a task was given it."""
        if isinstance(message, Upload | Resume):
            message = with_token(message, message.rank)
        [answer] = self._take(self.shard.receive(b"c", message, payload, self.now))
        return answer.message

    def _take(self, sends: list[Send]) -> list[Send]:
        """Keep what goes to the scheduler; return the rest."""
        self.to_scheduler += [send for send in sends if send.to == SCHEDULER]
        return [send for send in sends if send.to != SCHEDULER]

    def upload(self, task: int, value: float, *only: int) -> list[Message]:
        """Upload a delta, or some chunks of it."""
        return [
            self.say(Upload(7, 9, task, 0, 0, index), part.tobytes())
            for index, part in parts_of(value, {i: s.chunk for i, s in self.shard.chunks.items()}).items()
            if not only or index in only
        ]

    def order(self, phase: str = "collect", entries: Any = (), **fields: Any) -> RoundStatus:
        """Give an order with the whole ledger; return where the server stands then."""
        values = {"attempt": 1, "floor": 1, "first": 0, "count": len(entries), "weights": (), "factor": 1.0, **fields}
        version = values.pop("version", self.shard.version)
        order = RoundOrder(version, phase=phase, entries=tuple(entries), **{"share": 1.0, **values})
        self._take(self.shard.order(order))
        return self.round_status()

    def round_status(self) -> RoundStatus:
        """Return what was told last."""
        said, self.to_scheduler = self.to_scheduler, []
        return [send.message for send in said if isinstance(send.message, RoundStatus)][-1]

    def tick(self) -> None:
        """Let time pass."""
        self._take(self.shard.tick(self.now))

    def publish(self, entries: Any, **fields: Any) -> None:
        """Bring a round to its end."""
        assert self.order("prepare", entries, **fields).phase == "prepared"
        self.order("publish", entries, **fields)
