"""Lone: one shard and named workers, to walk through a conversation by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps.config.job import JobConfig
from ps.protocol.layout import Layout
from ps.protocol.messages import Attach, Init, InitChunk, Message, Pull, Push, Scale, Skip, Start, Suspend, View
from ps.server.send import Send
from ps.server.shard.gradient_shard import GradientShard

SIZE = 8
LAYOUT = Layout.of({"w": np.zeros(SIZE, np.float32)})


class Gone:
    """A tracker of weights that have left."""

    done = True


class Lone:
    """A shard with one chunk of eight float32, seeded with zeros by worker 1. Member n has rank n - 1."""

    def __init__(self, workers: int = 2, *, seeded: bool = True, **job: Any) -> None:
        self.job = JobConfig(workers=workers, **{"optimizer": "sgd:lr=1", **job})
        self.shard = GradientShard(0)
        self.members = set(range(1, workers + 1))
        self.late: set[int] = set()
        self.epoch = 0
        self.request = 0
        self.now = 0.0
        self.see()
        if seeded:
            self.seed()

    def see(self, *, job: dict[str, Any] | None = None) -> list[Send]:
        """Give the shard the next view."""
        self.epoch += 1
        rows = tuple((m, "worker", m - 1, m not in self.late, "host", ()) for m in sorted(self.members))
        return self.ship(
            self.shard.view(View(self.epoch, "running", "", "", job or self.job.to_dict(), rows), self.now)
        )

    def seed(self) -> None:
        """Initialise the model and start every worker at clock 0."""
        for member in sorted(self.members):
            self.ask(Attach(0, member, self.epoch))
            if member == 1:
                self.ask(Init(0, 1, 1, self.job.chunk_bytes, LAYOUT.pack()))
                self.ask(InitChunk(0, 1, 0), np.zeros(SIZE, np.float32))
            self.ask(Start(0, member, 0))
            if member != 1:
                self.pull(member, 0)

    def ask(self, message: Message, payload: Any = None) -> list[Send]:
        """Send a message as its member; the weights in the answers leave at once."""
        origin = str(getattr(message, "member", 0)).encode()
        data = payload.tobytes() if isinstance(payload, np.ndarray) else payload
        return self.ship(self.shard.receive(origin, message, data, self.now))

    @staticmethod
    def ship(replies: list[Send]) -> list[Send]:
        """Let the weights leave."""
        for reply in replies:
            if reply.loan is not None:
                reply.loan.tracker = Gone()
        return replies

    def number(self) -> int:
        """A fresh request number."""
        self.request += 1
        return self.request

    def push(self, member: int, clock: int, value: float, *, request: int | None = None, **fields: Any) -> list[Send]:
        """Push a gradient of equal elements; ``fields``: version, examples, scale, pull."""
        values = {"version": 0, "examples": 1.0, "scale": 1.0, "pull": True, **fields}
        message = Push(request or self.number(), member, 0, clock, **values)
        return self.ask(message, np.full(SIZE, value, np.float32))

    def skip(self, member: int, clock: int, pull: bool = True) -> list[Send]:
        return self.ask(Skip(self.number(), member, 0, clock, pull))

    def pull(self, member: int, clock: int) -> list[Send]:
        return self.ask(Pull(self.number(), member, 0, clock))

    def scale(self, member: int, clock: int, scale: float) -> list[Send]:
        return self.ask(Scale(self.number(), member, 0, clock, scale))

    def retire(self, member: int) -> list[Send]:
        return self.ask(Suspend(self.number(), member))

    def attach(self, member: int) -> int:
        """Attach and return the clock that was named."""
        [reply, *_] = self.ask(Attach(self.number(), member, self.epoch))
        return reply.message.clock  # type: ignore[attr-defined,no-any-return]

    def start(self, member: int, clock: int) -> list[Send]:
        return self.ask(Start(self.number(), member, clock))

    def join(self, member: int) -> None:
        """A late worker gets its seat."""
        self.members.add(member)
        self.late.add(member)
        self.see()

    def lose(self, member: int) -> list[Send]:
        """The scheduler says that a member is gone."""
        self.members.discard(member)
        return self.see()

    @property
    def chunk(self) -> Any:
        return self.shard.chunks[0]

    @property
    def value(self) -> float:
        """The weights' one value."""
        assert len(set(self.chunk.weights.tolist())) == 1
        return float(self.chunk.weights[0])


def told(replies: list[Send]) -> list[str]:
    """Return who was told what, such as ``1 Weights``."""
    return [f"{r.to.decode()} {type(r.message).__name__}" for r in replies]
