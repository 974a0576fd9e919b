"""FederatedShard: one server's part of a federated model as a state machine. Messages in, replies out; no sockets.

Clients pull the published weights and upload deltas. What counts, and when a round is published, is the scheduler's
decision, which comes as Orders; what the scheduler is to be told waits in ``tidings``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ps.algorithms import AlgorithmSpec
from ps.compress import CompressSpec, Key
from ps.config.job import JobConfig
from ps.errors import BadMessage, ConfigError
from ps.protocol.layout import Layout
from ps.protocol.messages import (
    Distances,
    Error,
    Held,
    Init,
    InitChunk,
    Inquire,
    Late,
    Later,
    Message,
    Ok,
    Order,
    Pull,
    Push,
    Resume,
    Retire,
    Standing,
    Stored,
    Upload,
    View,
    Waiting,
    Weights,
)
from ps.rules import RuleSpec
from ps.server.chunk import ChunkState, Waiter
from ps.server.federated.combination import Combination, Counted
from ps.server.federated.publisher import Publisher
from ps.server.federated.staged import Part, Staged
from ps.server.reply import Reply
from ps.trace import OFF, Trace
from ps.vault import Vault
from ps.xp import HostArray

PATIENCE = 0.5
"""Seconds after which a client that found no room asks again."""
RAW = ("buffer", "counter")
"""The kinds of tensors that are never compressed."""

Tiding = tuple[Message, HostArray | None]


class FederatedShard:
    """The chunks of one server, the deltas that come for them, and the round they are collected for."""

    def __init__(
        self,
        rank: int,
        job: JobConfig,
        vault: Vault | None = None,
        trace: Trace = OFF,
        threads: int = 0,
        member: int = 0,
    ) -> None:
        """Go on with what ``vault`` holds, if anything. Raises ConfigError when that belongs to another job."""
        self.rank = rank
        self.member = member
        self.job = job
        self._trace = trace
        algorithm = AlgorithmSpec.parse(job.algorithm).build()
        self._rule = RuleSpec.parse(job.aggregator if job.aggregator != "auto" else algorithm.aggregator).build()
        self._publisher = Publisher(job, threads)
        self._codec = CompressSpec.parse(job.compress).build()
        self._vault = vault or Vault(None)
        self.chunks: dict[int, ChunkState] = {}
        self.version = 0
        self.tidings: list[Tiding] = []
        """What is to be said to the scheduler."""
        self._attempt = 0
        self._floor = 0
        self._phase = "collect"
        self._folded = 0
        self._layout: Layout | None = None
        self._seeder = 0
        self._staged: dict[int, Staged] = {}
        self._settled: set[int] = set()
        self._waiters: list[tuple[int, Waiter]] = []
        self._prepared: dict[int, HostArray | None] = {}
        self._share = 1.0
        self._factor = 1.0
        self._restore()
        self._combination = self._fresh()

    # What a server asks of its shard

    deserted = False
    """Clients come and go as they like."""

    def expects(self, member: int) -> bool:
        """Whether a member's messages are a sign that the job goes on."""
        return member > 0

    def house(self, offered: HostArray | None) -> None:
        """Return no memory: nothing is shared in a federated job."""

    def view(self, view: View, now: float) -> list[Reply]:
        """Take a new view of the members."""
        return []

    def report(self, now: float) -> dict[str, Any]:
        """Return what the status shows of this server."""
        return {
            "clock": self.version,
            "bytes": sum(chunk.weights.nbytes for chunk in self.chunks.values()),
            "waiting": [],
            "attempt": self._attempt,
            "counted": self._folded,
            "staged": len(self._staged),
            "staged_bytes": sum(staged.nbytes for staged in self._staged.values()),
        }

    def receive(self, origin: bytes, message: Message, payload: Any, now: float) -> list[Reply]:
        """Take a client's message and return what is to be said now.

        Raises BadMessage when the message cannot be meant; nothing has changed then.
        """
        match message:
            case Upload():
                return [Reply(origin, self._upload(message, payload, now))]
            case Pull():
                return self._pull(origin, message, now)
            case Init():
                return [Reply(origin, self._init(message))]
            case InitChunk():
                return [Reply(origin, self._fill(message, payload))]
            case Resume():
                held = self._staged[message.task].squares if message.task in self._staged else ()
                return [Reply(origin, Held(message.request, message.task, tuple(sorted(held))))]
            case Retire():
                return [Reply(origin, Ok(message.request))]
            case Inquire():
                return [Reply(origin, self._inquire(origin, message))]
            case Push():
                raise BadMessage("a gradient, but this job is federated: clients upload deltas")
            case _:
                raise BadMessage(f"a federated server has no use for {type(message).__name__}")

    def tell(self) -> None:
        """Put where this server stands among the tidings."""
        notes = tuple(
            (task, staged.norm_squared, staged.wrong) for task, staged in self._staged.items() if self._complete(staged)
        )
        standing = Standing(
            self.member,
            self.version,
            self._attempt,
            self._phase,
            self._folded,
            self._vault.durable and bool(self.chunks or self._layout),
            notes[:10_000],
        )
        self.tidings.append((standing, None))

    # The first values

    def _init(self, message: Init) -> Message:
        layout = Layout.unpack(message.layout)
        if (message.servers, message.chunk_size) != (self.job.servers, self.job.chunk_bytes):
            ours = f"{self.job.servers} servers and chunks of {self.job.chunk_bytes} bytes"
            raise BadMessage(f"Init for {message.servers} servers and chunks of {message.chunk_size} bytes, not {ours}")
        if self._layout is None or (layout != self._layout and not self._started):
            try:
                self._lay_out(layout)
            except MemoryError:
                self.chunks, self._layout = {}, None
                text = f"server {self.rank} has no memory for its share of a model of {layout.nbytes} bytes"
                return Error(message.request, "memory", text)
            self._combination = self._fresh()
        elif layout != self._layout:
            return Error(message.request, "layout", f"server {self.rank} holds another model, which is in training")
        self._seeder = message.member
        return Ok(message.request)

    def _lay_out(self, layout: Layout) -> None:
        cut = (c for c in layout.chunks(self.job.servers, self.job.chunk_bytes) if c.server == self.rank)
        self.chunks = {c.index: ChunkState(c, np.zeros(c.size, c.dtype), {}) for c in cut}
        self._layout = layout

    def _fill(self, message: InitChunk, payload: Any) -> Message:
        chunk = self._chunk(message.chunk)
        values = self._raw(chunk, payload)
        if message.member != self._seeder:
            text = f"server {self.rank} takes the first values from another worker"
            return Error(message.request, "evicted", text)
        if not self._started:
            chunk.own()
            np.copyto(chunk.weights, values)
            chunk.slots = self._publisher.slots(chunk)
            chunk.filled = True
            if all(chunk.filled for chunk in self.chunks.values()):
                self._keep_model()
                self.tell()
        return Ok(message.request)

    @property
    def _started(self) -> bool:
        return self.version > 0 or bool(self._staged)

    # Weights down

    def _pull(self, origin: bytes, message: Pull, now: float) -> list[Reply]:
        chunk = self._filled(message.chunk)
        waiter = Waiter(origin, message.member, message.request, message.clock, True, now)
        if message.clock <= self.version:
            return [self._answer(chunk, waiter)]
        self._waiters = [(i, w) for i, w in self._waiters if (w.member, w.request) != (message.member, message.request)]
        self._waiters.append((message.chunk, waiter))
        return []

    def _answer(self, chunk: ChunkState, waiter: Waiter) -> Reply:
        made = Weights(waiter.request, chunk.chunk.index, self.version, 0)
        return Reply(waiter.origin, made, chunk.lend())

    def _inquire(self, origin: bytes, message: Inquire) -> Waiting:
        known = set()
        for _, waiter in self._waiters:
            if waiter.member == message.member:
                waiter.origin = origin
                known.add(waiter.request)
        unknown = tuple(request for request in message.requests if request not in known)
        return Waiting(message.request, unknown, self.version, ())

    # Deltas up

    def _upload(self, message: Upload, payload: Any, now: float) -> Message:
        chunk = self._filled(message.chunk)
        if message.task < self._floor or message.task in self._settled:
            return Late(message.request, message.chunk, self.version)
        staged = self._staged.get(message.task)
        if staged is not None and message.chunk in staged.squares:  # a retry: the first one counts
            return Stored(message.request, message.task, message.chunk)
        nbytes = memoryview(payload).nbytes
        if staged is None:
            taken = sum(other.nbytes for other in self._staged.values())
            if taken and taken + nbytes > self.job.upload_room:
                return Later(message.request, message.chunk, PATIENCE)
            staged = self._staged[message.task] = Staged(now)
        try:
            part = self._read(chunk, message, payload)
        except BadMessage:
            staged.refuse(message.chunk, "malformed")
        else:
            staged.take(message.chunk, part, chunk.chunk.kind, nbytes)
        if self._complete(staged):
            self.tell()
        return Stored(message.request, message.task, message.chunk)

    def _read(self, chunk: ChunkState, message: Upload, payload: Any) -> Part:
        if self.job.compress == "none" or chunk.chunk.kind in RAW:
            return self._raw(chunk, payload)
        key = Key(self.job.seed, message.round, message.chunk, message.rank)
        frame = np.frombuffer(payload, np.uint8)
        return self._codec.open(frame, chunk.chunk.size, np.dtype(chunk.chunk.dtype), key)

    def _complete(self, staged: Staged) -> bool:
        return len(staged.squares) == len(self.chunks)

    # What the scheduler orders

    def order(self, order: Order) -> list[Reply]:
        """Do what the scheduler wants, as far as it is possible; return the answers that waited for it."""
        replies: list[Reply] = []
        if order.version == self.version and self._layout is not None:
            if order.attempt != self._attempt and not (self._phase == "prepared" and order.phase == "publish"):
                self._begin(order.attempt)
            self._forget_below(order.floor)
            self._count(order)
            replies = self._go_on(order)
        self.tell()
        return replies

    def _begin(self, attempt: int) -> None:
        """Collect anew; what was counted in the attempt before is gone, what is staged is not."""
        self._attempt, self._phase, self._folded = attempt, "collect", 0
        self._combination = self._fresh()
        if self._prepared:
            self._prepared = {}
            self._vault.drop("prepared")

    def _fresh(self) -> Combination:
        return Combination(self._rule, {index: chunk.chunk for index, chunk in self.chunks.items()})

    def _forget_below(self, floor: int) -> None:
        if floor > self._floor:
            self._floor = floor
            self._staged = {task: staged for task, staged in self._staged.items() if task >= floor}
            self._settled = {task for task in self._settled if task >= floor}

    def _count(self, order: Order) -> None:
        """Take the ledger's entries that are new, in their order."""
        if self._phase != "collect":
            return
        for number, (task, weight, scale, bound) in enumerate(order.entries, order.first):
            if number != self._folded:
                continue
            staged = self._staged.pop(task, None)
            if weight > 0:
                if staged is None or not self._complete(staged) or staged.wrong:
                    self._phase = "broken"  # it was here, and this process is not the one that had it
                    return
                self._combination.add(Counted(weight, scale, bound, staged.parts))
            self._settled.add(task)
            self._folded += 1

    def _go_on(self, order: Order) -> list[Reply]:
        complete = self._folded >= order.count and self._phase != "broken"
        if order.phase == "measure" and complete and self._phase == "collect":
            found = self._combination.distances()
            self.tidings.append((Distances(self.member, self._attempt, self._combination.count), found))
        if order.phase == "prepare" and complete and self._phase == "collect":
            self._factor, self._share = order.factor, order.share
            self._prepared = {index: self._combination.result(index, order.weights) for index in self.chunks}
            kept = {str(index): found for index, found in self._prepared.items() if found is not None}
            values = {"version": self.version, "attempt": self._attempt, "factor": self._factor, "share": self._share}
            self._vault.keep("prepared", {**values, "floor": self._floor}, kept)
            self._phase = "prepared"
        if order.phase == "publish" and self._phase == "prepared" and order.attempt == self._attempt:
            return self._publish()
        return []

    def _publish(self) -> list[Reply]:
        """Apply what is prepared, and answer those who wait for the new version."""
        since = self._trace.now()
        for index, chunk in self.chunks.items():
            found = self._prepared[index]
            if found is not None:
                self._publisher.apply(chunk, found, self._factor, self._share)
        self.version += 1
        self._trace.add("apply", since, name="publish", clock=self.version)
        self._begin(self._attempt)
        self._keep_model()
        self._vault.drop("prepared")
        waiters, self._waiters = self._waiters, []
        replies = []
        for index, waiter in waiters:
            if waiter.clock <= self.version:
                replies.append(self._answer(self.chunks[index], waiter))
            else:
                self._waiters.append((index, waiter))
        return replies

    # Across deaths of this process

    def _keep_model(self) -> None:
        if self._layout is None:
            return
        arrays = {f"weights/{index}": chunk.weights for index, chunk in self.chunks.items()}
        for index, chunk in self.chunks.items():
            arrays.update({f"{slot}/{index}": values for slot, values in chunk.slots.items()})
        values = {
            "layout": self._layout.pack(),
            "servers": self.job.servers,
            "chunk_size": self.job.chunk_bytes,
            "rank": self.rank,
            "optimizer": self._publisher.name,
            "version": self.version,
            "updates": {index: chunk.updates for index, chunk in self.chunks.items()},
        }
        self._vault.keep("model", values, arrays)

    def _restore(self) -> None:
        found = self._vault.load("model")
        if found is None:
            return
        values, arrays = found
        theirs = [values[key] for key in ("servers", "chunk_size", "rank", "optimizer")]
        ours = [self.job.servers, self.job.chunk_bytes, self.rank, self._publisher.name]
        if theirs != ours:
            raise ConfigError(f"the state file is of a server with {theirs}, not {ours}; give another --state")
        self._lay_out(Layout.unpack(tuple((name, section, tuple(shape)) for name, section, shape in values["layout"])))
        self.version = int(values["version"])
        for index, chunk in self.chunks.items():
            chunk.weights = arrays[f"weights/{index}"]
            chunk.slots = {slot: arrays[f"{slot}/{index}"] for slot in self._publisher.slots(chunk)}
            chunk.updates, chunk.filled = int(values["updates"][str(index)]), True
        prepared = self._vault.load("prepared")
        if prepared is not None and prepared[0]["version"] == self.version:
            values, arrays = prepared
            self._attempt, self._floor, self._phase = int(values["attempt"]), int(values["floor"]), "prepared"
            self._factor, self._share = float(values["factor"]), float(values["share"])
            self._prepared = {index: arrays.get(str(index)) for index in self.chunks}

    # Checks

    def _chunk(self, index: int) -> ChunkState:
        chunk = self.chunks.get(index)
        if chunk is None:
            raise BadMessage(f"server {self.rank} does not hold chunk {index}")
        return chunk

    def _filled(self, index: int) -> ChunkState:
        chunk = self._chunk(index)
        if not chunk.filled:
            raise BadMessage(f"chunk {index} has no values yet: kv.init comes first")
        return chunk

    @staticmethod
    def _raw(chunk: ChunkState, payload: Any) -> HostArray:
        if memoryview(payload).nbytes != chunk.chunk.nbytes:
            got = memoryview(payload).nbytes
            raise BadMessage(f"chunk {chunk.chunk.index} has {chunk.chunk.nbytes} bytes, the frame {got}")
        return np.frombuffer(payload, chunk.chunk.dtype)
