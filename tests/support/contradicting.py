"""Contradicting: a scheduler that contradicts itself, and what is known, to servers of every kind.

Each of its fields is within its range, and most of them are right: it is some together, or one after another, that
cannot be. A server goes on; what it refuses it refuses by name, and has changed nothing for it.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import replace
from typing import Any

import numpy as np

from ps.config.job import JobConfig
from ps.errors import ConfigError, ProtocolError
from ps.protocol import messages as m
from ps.protocol.codec import decode, encode
from ps.protocol.layout import Layout
from ps.server.send import Send
from ps.server.shard.federated_shard import FederatedShard
from ps.server.shard.gradient_shard import GradientShard
from support.frames import frame
from support.identity import KEY
from support.lone import Gone
from support.schema import ends, fields_of

LAYOUT = Layout.of(
    {
        "w": np.zeros((20, 10), np.float32),
        "b": np.zeros(9),
        "mean": np.zeros(5, np.float32),
        "n": np.zeros(2, np.int64),
    },
    {"mean": "buffer", "n": "counter"},
)
LIFE = 200
ROUNDS: dict[str, dict[str, Any]] = {
    "mean": {},
    "median": {"aggregator": "median"},
    "multikrum": {"aggregator": "multikrum:1"},
    "geomedian int8": {"aggregator": "geomedian", "compress": "int8"},
    "fedadam": {"server_optimizer": "fedadam"},
    "topk": {"compress": "topk:0.1"},
    "scaffold": {"algorithm": "scaffold"},
}
VIEWS: dict[str, dict[str, Any]] = {
    "sync": {},
    "clipping": {"clip_norm": 1.0},
    "backup": {"backup_workers": 1},
    "async": {"mode": "async"},
    "ssp": {"mode": "ssp"},
    "ssp int8": {"mode": "ssp", "compress": "int8"},
}
KINDS = (*(f"orders, {name}" for name in ROUNDS), *(f"views, {name}" for name in VIEWS))


def run(name: str, seed: int, count: int) -> Counter[str]:
    """Say so many things to servers; return how many were taken and refused. AssertionError where one ends."""
    chance, said = random.Random(f"{name}/{seed}"), Counter[str]()
    kind, _, which = name.partition(", ")
    while (left := count - said.total()) > 0:
        life = Orders(ROUNDS[which], chance) if kind == "orders" else Views(VIEWS[which], chance)
        for _ in range(min(LIFE, left)):
            said[_say(life)] += 1
    return said


def _say(life: Orders | Views) -> str:
    message = life.next()
    life.latest.append(repr(message))
    before = life.picture()
    try:
        with np.errstate(all="ignore"):
            life.settle(life.hear(decode(encode(message))))
            life.settle(life.look())
    except (ProtocolError, ConfigError) as error:
        assert str(error), f"{list(life.latest)}"
        assert life.picture() == before, f"refused, and something has changed: {list(life.latest)}"
        return "refused"
    except Exception as error:
        raise AssertionError(f"{error!r} after {list(life.latest)}") from error
    return "taken"


class Told:
    """A shard that hears messages of one kind."""

    shard: Any

    def look(self) -> list[Send]:
        decode(encode(m.Heartbeat(1, 1, self.shard.report(0.0))))
        return self.shard.tick(0.0)

    def settle(self, sends: list[Send]) -> None:
        _settle(sends)


class Orders(Told):
    """A federated server in some rounds, with uploads that come as they should."""

    def __init__(self, settings: dict[str, Any], chance: random.Random) -> None:
        self.job = JobConfig(mode="federated", workers=5, chunk_size=1024, upload_room=1 << 20, **settings)
        layout = LAYOUT.with_controls() if self.job.algorithm == "scaffold" else LAYOUT
        self.chance, self.latest = chance, deque[str](maxlen=8)
        self.shard = FederatedShard(0, self.job, KEY, member=1)
        self.chunks = layout.chunks(1, self.job.chunk_bytes)
        self._tell(m.Init(1, 2, 1, self.job.chunk_bytes, layout.pack()))
        for chunk in self.chunks:
            self._tell(m.InitChunk(2, 2, chunk.index), np.ones(chunk.size, chunk.dtype).tobytes())
        self.order = m.RoundOrder(0, 1, 1, "collect", 0, (), 0, (), 1.0, 1.0)
        """The latest that could be meant."""
        self.told: list[m.RoundOrder] = [self.order]
        self.task = 0
        self.shard.order(self.order)

    def _tell(self, message: m.Message, payload: Any = None) -> None:
        self.settle(self.shard.receive(b"o", message, None if payload is None else memoryview(payload), 0.0))

    def _upload(self) -> None:
        self.task += 1
        codec = self.job.compress
        for chunk in self.chunks:
            plain = codec == "none" or not chunk.compressible
            values = np.full(chunk.size, self.task, chunk.dtype).tobytes()
            token = KEY.token(self.task, 3)
            upload = m.Upload(9, 3, self.task, self.shard.version, 3, chunk.index, token)
            self._tell(upload, values if plain else frame(codec, chunk.size, chunk.dtype))

    def next(self) -> m.RoundOrder:
        """Return an order: the right one, one of before, or one of which some fields are others."""
        chance = self.chance
        if chance.random() < 0.4:
            self._upload()
        order = self.order
        if chance.random() < 0.7:
            order = self.order = self._right()
        if chance.random() < 0.1:
            order = chance.choice(self.told[-10:])
        self.told = [*self.told[-10:], order]
        if chance.random() < 0.5:
            order = replace(order, **{name: self._odd(name) for name in self._some()})
        return order

    def _some(self) -> list[str]:
        return self.chance.sample(sorted(fields_of(m.RoundOrder)), self.chance.choice((1, 1, 2, 2, 3)))

    def _odd(self, name: str) -> Any:
        chance = self.chance
        if name == "entries" and chance.random() < 0.7:
            big = (0.0, 5e-324, 1e-30, 1.0, 1e30, 1e300, 1.79e308)
            tasks = range(max(0, self.task - 3), self.task + 3)
            return tuple(
                (chance.choice(tasks), *(chance.choice(big) for _ in range(3))) for _ in range(chance.randrange(5))
            )
        if name == "weights" and chance.random() < 0.7:
            return tuple(chance.choice((0.0, 0.5, -1e308, 1e308)) for _ in range(chance.randrange(6)))
        if name in ("version", "attempt", "first", "count", "floor") and chance.random() < 0.7:
            return max(0, getattr(self.order, name) + chance.choice((-2, -1, 1, 2)))
        return chance.choice(ends(fields_of(m.RoundOrder)[name]))

    def _right(self) -> m.RoundOrder:
        """Return what a scheduler would say next."""
        order, shard = self.order, self.shard
        if order.version != shard.version or order.phase == "publish":
            return m.RoundOrder(shard.version, order.attempt + 1, order.floor, "collect", 0, (), 0, (), 1.0, 1.0)
        entries = order.entries
        if order.phase == "collect" and len(entries) < self.task and self.chance.random() < 0.8:
            entries = (*entries, (self.task, 2.0, 1.0, 1.0))
            return replace(order, entries=entries)
        counted = len([entry for entry in entries if entry[1] > 0])
        phases = ["collect", *(["measure"] if self.job.aggregator.startswith(("multi", "geo")) else []), "prepare"]
        following = [*phases, "publish"][phases.index(order.phase) + 1 if order.phase in phases else 0]
        weights = (1.0 / counted,) * counted if counted and len(phases) == 3 else ()
        return replace(order, phase=following, count=len(entries), weights=weights)  # type: ignore[arg-type]

    def hear(self, message: m.Message) -> list[Send]:
        assert isinstance(message, m.RoundOrder)
        return self.shard.order(message)

    def picture(self) -> Any:
        """Return what it knows."""
        [status] = self.shard.tick(0.0)
        return status.message, [state.weights.tobytes() for state in self.shard.chunks.values()]


class Views(Told):
    """A server of a job in another mode, whose workers push."""

    def __init__(self, settings: dict[str, Any], chance: random.Random) -> None:
        self.job = JobConfig(workers=3, chunk_size=1024, **settings)
        self.chance, self.latest = chance, deque[str](maxlen=8)
        self.shard = GradientShard(0, threads=1)
        self.layout = LAYOUT.of_kind("trainable")
        self.chunks = self.layout.chunks(1, 1024)
        self.rows = [(member, "worker", member - 2, True, "h", ()) for member in (2, 3, 4)]
        self.epoch = 1
        self.settle(self.shard.view(self._view(tuple(self.rows)), 0.0))
        self._tell(m.Init(1, 2, 1, 1024, self.layout.pack()))
        for chunk in self.chunks:
            self._tell(m.InitChunk(2, 2, chunk.index), np.ones(chunk.size, chunk.dtype).tobytes())
        for member in (2, 3, 4):
            self._tell(m.Attach(3, member, 1))
            self._tell(m.Start(4, member, 0))

    def _view(self, rows: tuple[Any, ...]) -> m.View:
        return m.View(self.epoch, "running", "", "", self.job.to_dict(), rows)

    def _tell(self, message: m.Message, payload: Any = None) -> None:
        self.settle(self.shard.receive(b"o", message, None if payload is None else memoryview(payload), 0.0))

    def next(self) -> m.View:
        """Return a view: of whom there is, or of some that cannot all be."""
        chance = self.chance
        for member in (2, 3, 4):
            for chunk in self.chunks if chance.random() < 0.5 else ():
                state = self.shard.chunks[chunk.index]
                clock, values = state.done.get(member, 0), np.full(chunk.size, 0.5, chunk.dtype).tobytes()
                payload = values if self.job.compress == "none" else frame(self.job.compress, chunk.size, chunk.dtype)
                about = chunk.index, min(clock, 1 << 40), 0, 1.0, 1.0, not self.job.clips_in_two_phases
                self._push(m.Push(9, member, *about), payload)
                if self.job.clips_in_two_phases:
                    self._push(m.Scale(9, member, chunk.index, state.version, 0.5))
            if chance.random() < 0.2:
                for _ in range(2):
                    self._push(m.Attach(3, member, self.epoch))
                    self._push(m.Start(4, member, chance.choice((0, 1, 7, 1 << 53))))
        self.epoch += 1
        rows = [*self.rows, *self.rows]
        rows += [replace_row(row, chance) for row in self.rows]
        view = self._view(tuple(chance.sample(rows, chance.randrange(len(rows)))))
        if chance.random() < 0.3:
            odd = chance.sample(sorted(fields_of(m.View)), chance.choice((1, 2)))
            view = replace(view, **{name: chance.choice(ends(fields_of(m.View)[name])) for name in odd})
        return view

    def _push(self, message: m.Message, payload: Any = None) -> None:
        try:
            self._tell(message, payload)
        except ProtocolError:  # of a clock that is not, or of a member that is none now
            return

    def hear(self, message: m.Message) -> list[Send]:
        assert isinstance(message, m.View)
        return self.shard.view(message, 0.0)

    def picture(self) -> Any:
        """Return what it knows."""
        return [state.weights.tobytes() for state in self.shard.chunks.values()], sorted(self.shard.participants)


def replace_row(row: tuple[Any, ...], chance: random.Random) -> tuple[Any, ...]:
    """Return a member's row with something else in one place."""
    member, role, rank, initial, place, addresses = row
    odd = chance.randrange(4)
    if odd == 0:
        return chance.choice((0, 2, 3, 77, (1 << 62) - 1)), role, rank, initial, place, addresses
    if odd == 1:
        return member, chance.choice(("server", "worker")), rank, initial, place, addresses
    if odd == 2:
        return member, role, chance.choice((0, 1, 2, (1 << 31) - 1)), initial, place, addresses
    return member, role, rank, not initial, place, addresses


def _settle(sends: list[Send]) -> None:
    for send in sends:
        if send.loan is not None:
            send.loan.tracker = Gone()
        decode(encode(send.message))
