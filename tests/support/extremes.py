"""Extremes: valid messages with extreme values in every field, said to each kind of process by all sorts of peers.

The messages are made from their declarations, see ``schema``. Every process must live, say only what can be written,
keep its weights where a peer has no part in them, and its memory must not grow with what is said. A long run:
``scripts/fuzz_messages 2000000``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from ps.config.job import JobConfig
from ps.errors import BadMessage, ProtocolError, PSError
from ps.protocol import messages as m
from ps.protocol.codec import decode, encode
from ps.protocol.layout import Chunk, Layout
from ps.protocol.membership import Membership
from ps.server.scheduler.registrar import Registrar
from ps.server.scheduler.state import SchedulerState
from ps.server.scheduler.status import snapshot
from ps.server.send import Send
from ps.server.shard.federated_shard import FederatedShard
from ps.server.shard.gradient_shard import GradientShard
from support import among_liars, contradicting
from support.frames import frame
from support.identity import KEY
from support.lying import JOBS
from support.schema import extreme, fields_of

Who = Literal["member", "stranger", "another job"]
WHO: tuple[Who, ...] = ("member", "stranger", "another job")
LAYOUT = Layout.of({"w": np.zeros((20, 10), np.float32), "b": np.zeros(30, np.float32)})
VARIED = Layout.unpack(
    (
        ("w", "float32", (20, 10)),
        ("b", "float32/trainable/slow lr=0.001", (30,)),
        ("c", "float32/trainable/slow lr=0.001", (7,)),
        ("h", "float16", (40,)),
        ("g", "bfloat16/trainable/fixed weight_decay=0.1", (9,)),
    )
)
"""A model with groups of tensors, and with half precision."""
LIFE = 400
"""Messages after which a process is made anew: most of what can be reached is near its beginning."""


class Sent:
    """A tracker of weights that have left."""

    done = True


class Target:
    """One process of a job as a state machine; ``members`` are those who have a part in it."""

    members: tuple[int, ...]
    others: tuple[int, ...]
    chunks: tuple[Chunk, ...] = ()
    codec = "none"
    layout = LAYOUT

    def take(self, message: m.Message, payload: Any, who: int, now: float) -> list[Send]:
        """Take a message, and return what is said."""
        raise NotImplementedError

    def look(self, now: float) -> None:
        """Do what the process does now and then, and whoever looks at it."""

    def warm_up(self) -> None:
        """Have it make what it makes once, and keeps."""

    def bits(self) -> bytes:
        """Return the weights."""
        return b""


class SchedulerTarget(Target):
    """A scheduler of a running job of one server and three workers."""

    def __init__(self, mode: str, **explicit: Any) -> None:
        settings = {"mode": mode, "servers": 1, "workers": 3, "rounds": 1000, **explicit}
        self.state = SchedulerState(settings, 0.0, Registrar(KEY))
        seats = []
        for number, role in enumerate(("server", "worker", "worker", "worker")):
            seats.append(_seat(self.state.receive(_hello(number, role), 0.0)))
        worker = seats[1]
        self.state.receive(m.InitRequest(1, worker, LAYOUT.pack()), 0.0)
        self.state.receive(m.InitDone(2, worker), 0.0)
        self.members = tuple(seats)
        other = SchedulerState({"workers": 1}, 0.0)
        self.others = (_seat(other.receive(_hello(77, "worker"), 0.0)),)
        if mode == "federated":
            self.state.receive(m.RoundStatus(seats[0], 0, 1, "collect", 0, True, ()), 0.1)
            for worker in seats[1:]:
                self.state.receive(m.Poll(3, worker, -1, {}), 2.0)

    def take(self, message: m.Message, payload: Any, who: int, now: float) -> list[Send]:
        return self.state.hear(message, now, payload)

    def look(self, now: float) -> None:
        for send in self.state.tick(now, reach=lambda member: True):
            decode(encode(send.message))
        shown = snapshot(self.state, now, address="tcp://h:1", uptime=now, rejected={})
        decode(encode(m.Status(1, json.loads(json.dumps(shown, allow_nan=False)))))
        SchedulerState.load(json.loads(json.dumps(self.state.dump())), now)
        if self.state.rounds is not None:
            json.dumps(self.state.rounds.dump())


class GradientTarget(Target):
    """A server of a running job, with two workers that take part."""

    def __init__(self, mode: str, compress: str = "none", *, layout: Layout = LAYOUT, **settings: Any) -> None:
        self.layout = layout
        job = JobConfig(mode=mode, workers=2, chunk_size=1024, compress=compress, optimizer="adamw:lr=0.01", **settings)
        self.shard = GradientShard(0, threads=1)
        self.members, self.others, self.codec = (2, 3), (1 << 40, 12345), compress
        rows = tuple((n, "worker", n - 2, True, "h", ()) for n in self.members)
        self.shard.view(m.View(3, "running", "", "", job.to_dict(), rows), 0.0)  # type: ignore[arg-type]
        self.chunks = layout.chunks(1, 1024)
        _seed(self, 2, lambda message, payload: self.shard.receive(b"o", message, payload, 0.0))
        for n in self.members:
            self.shard.receive(b"o", m.Attach(5, n, 3), None, 0.0)
            self.shard.receive(b"o", m.Start(6, n, 0), None, 0.0)

    def take(self, message: m.Message, payload: Any, who: int, now: float) -> list[Send]:
        return self.shard.receive(b"peer %d" % who, message, payload, now)

    def warm_up(self) -> None:
        """Take a step: the optimizer's scratch is made by the first."""
        for chunk, member in itertools.product(self.chunks, self.members):
            push = m.Push(7, member, chunk.index, 0, 0, 1.0, 1.0, False, ())
            self.shard.receive(b"peer %d" % member, push, bytes(chunk.nbytes), 0.0)

    def look(self, now: float) -> None:
        self.shard.tick(now)
        decode(encode(m.Heartbeat(1, 1, self.shard.report(now))))

    def bits(self) -> bytes:
        return b"".join(state.weights.tobytes() for state in self.shard.chunks.values())


class FederatedTarget(Target):
    """A server of a federated job."""

    def __init__(self, compress: str = "none", **settings: Any) -> None:
        job = JobConfig(
            mode="federated", workers=3, chunk_size=1024, compress=compress, upload_room=1 << 20, **settings
        )
        self.shard = FederatedShard(0, job, KEY, member=1)
        self.members, self.others, self.codec = (2, 3, 4), (1 << 40, 12345), compress
        self.chunks = LAYOUT.chunks(1, 1024)
        _seed(self, 2, lambda message, payload: self.shard.receive(b"o", message, payload, 0.0))
        self.shard.order(m.RoundOrder(0, 1, 1, "collect", 0, (), 0, (), 1.0, 1.0))

    def take(self, message: m.Message, payload: Any, who: int, now: float) -> list[Send]:
        return self.shard.receive(b"peer %d" % who, message, payload, now)

    def look(self, now: float) -> None:
        for send in self.shard.tick(now):
            decode(encode(send.message))
        decode(encode(m.Heartbeat(1, 1, self.shard.report(now))))

    def bits(self) -> bytes:
        return b"".join(state.weights.tobytes() for state in self.shard.chunks.values())


class MemberTarget(Target):
    """A member's talk with whoever answers at its scheduler's address: nothing but what ends a member may end it."""

    def __init__(self, mode: str) -> None:
        settings: dict[str, Any] = {"rank": None, "addresses": (), "script": {}, "connect_timeout": 1e9, "now": 0.0}
        self.membership = Membership("worker", "tcp://h:1", **settings)
        self.membership.receive(m.Welcome(0, 3, 1, 10.0, {"mode": mode}), 0.0)
        self.members, self.others = (3,), (4,)

    def take(self, message: m.Message, payload: Any, who: int, now: float) -> list[Send]:
        try:
            self.membership.receive(message, now)
        except PSError as error:
            if not isinstance(message, m.Error):
                raise
            str(error)
        return []

    def look(self, now: float) -> None:
        for message in self.membership.tick(now):
            decode(encode(message))


Make = Callable[[], Target]
TARGETS: dict[str, Make] = {
    **{f"scheduler {mode}": lambda mode=mode: SchedulerTarget(mode) for mode in ("sync", "async", "ssp", "federated")},
    "scheduler fedbuff": lambda: SchedulerTarget("federated", algorithm="fedbuff:2"),
    "scheduler fednova": lambda: SchedulerTarget("federated", algorithm="fednova", late="discount", max_staleness=3),
    "scheduler geomedian": lambda: SchedulerTarget("federated", aggregator="geomedian"),
    **{f"server {mode}": lambda mode=mode: GradientTarget(mode) for mode in ("sync", "async", "ssp")},
    **{
        f"server {mode} varied": lambda mode=mode: GradientTarget(mode, layout=VARIED)
        for mode in ("sync", "async", "ssp")
    },
    "server sync clipping": lambda: GradientTarget("sync", clip_norm=1.0),
    "server sync robust": lambda: GradientTarget("sync", aggregator="median"),
    **{
        f"server {mode} {codec}": lambda mode=mode, codec=codec: GradientTarget(mode, codec)
        for mode, codec in (("async", "randomk:0.1"), ("sync", "int8"), ("ssp", "topk:0.1"), ("sync", "onebit"))
    },
    **{
        f"server federated {codec}": lambda codec=codec: FederatedTarget(codec)
        for codec in ("none", "randomk:0.1", "int8", "topk:0.1", "fp16", "powersgd:2")
    },
    "worker": lambda: MemberTarget("sync"),
    "client": lambda: MemberTarget("federated"),
}


def run(name: str, who: Who, seed: int, count: int) -> Counter[str]:
    """Say so many messages to a process. AssertionError, with the message, when it ends or says what it must not.

    Returns how many were taken, refused, and could not be said.
    """
    chance = random.Random(f"{name}/{who}/{seed}")
    said: Counter[str] = Counter()
    for start in range(0, count, LIFE):
        target = TARGETS[name]()
        before = target.bits()
        said += speak(target, who, chance, min(LIFE, count - start))
        if who != "member":
            assert target.bits() == before, f"{name}: weights were changed by a {who}"
    return said


def speak(target: Target, who: Who, chance: random.Random, count: int) -> Counter[str]:
    """Say so many messages to one process, see ``run``."""
    said: Counter[str] = Counter()
    for number in range(count):
        message, payload, member = _message(target, who, chance)
        about = f"{type(target).__name__}: {message!r} of a {who}"
        now = 3.0 + 0.01 * number
        try:
            header = encode(message)
        except BadMessage:
            said["too long"] += 1
            continue
        try:
            with np.errstate(all="ignore"):  # of gradients that no worker of ours would send
                sends = target.take(decode(header), payload, member, now)
        except ProtocolError:
            said["refused"] += 1
            continue
        except Exception as error:
            raise AssertionError(f"{about} raised {error!r}") from error
        said["taken"] += 1
        try:
            for send in sends:
                if send.loan is not None:
                    send.loan.tracker = Sent()
                decode(encode(send.message))
            if number % 100 == 99:
                target.look(now)
        except Exception as error:
            raise AssertionError(f"{about} led to {error!r}") from error
    return said


def _message(target: Target, who: Who, chance: random.Random) -> tuple[m.Message, Any, int]:
    cls = chance.choice(_CLASSES)
    strange = (chance.getrandbits(62), 0, 1 << 61)
    ids = target.members if who == "member" else target.others if who == "another job" else strange
    member = chance.choice(ids)
    near: dict[str, Any] = {"member": member}
    if chance.random() < 0.8:
        near |= {"chunk": chance.randrange(max(1, len(target.chunks))), "task": chance.randrange(1, 8)}
        near |= {"round": chance.randrange(3), "rank": chance.randrange(4), "attempt": chance.randrange(3)}
        if chance.random() < 0.7:
            near |= {"clock": chance.randrange(4), "version": chance.randrange(3), "epoch": chance.randrange(6)}
        if chance.random() < 0.5:
            near |= {"layout": target.layout.pack(), "servers": 1, "chunk_size": 1024, "scale": 0.5, "examples": 8.0}
        if chance.random() < 0.5:
            near |= {"request": chance.randrange(1, 50), "nonce": chance.randrange(20), "role": "worker", "script": {}}
    if who == "member" and {"task", "rank"} <= near.keys():  # else only that they have no right to it would be tried
        near["token"] = KEY.token(near["task"], near["rank"])
    kept = {name: value for name, value in near.items() if name in fields_of(cls) and _usual(cls, name)}
    message = extreme(cls, chance, **kept)
    return message, _payload(target, message, chance) if cls.payload else None, member


def _usual(cls: type[m.Message], name: str) -> bool:
    return not (cls is m.Pong and name in ("rank", "role"))


def _payload(target: Target, message: m.Message, chance: random.Random) -> memoryview:
    index = getattr(message, "chunk", 0)
    size = target.chunks[index].size if index < len(target.chunks) else 7
    dtype = target.chunks[index].dtype if index < len(target.chunks) else "float32"
    kind = chance.randrange(6)
    if kind == 0:
        return memoryview(chance.randbytes(chance.choice((0, 1, 8, 72, size, 4 * size))))
    value = chance.choice((0.0, 1.0, -1.0, 1e-40, 1e19, 3e38, float("nan"), float("inf")))
    with np.errstate(over="ignore"):
        values = np.full(size, value, np.float32).astype(dtype)
        if kind == 1:
            values[chance.randrange(size)] = 1e30
    if target.codec == "none" or kind == 2:
        return memoryview(values.tobytes())
    made = bytearray(frame(target.codec, size))
    if kind == 3 and made:
        made[chance.randrange(len(made))] = chance.randrange(256)
    return memoryview(bytes(made))


def _hello(number: int, role: Any) -> m.Hello:
    return m.Hello(1, 1000 + number, role, -1, "h", 1, "", ("tcp://h:1",), {})


def _seat(sends: list[Send]) -> int:
    return next(send.message.member for send in sends if isinstance(send.message, m.Welcome))


def _seed(target: Target, member: int, say: Callable[[m.Message, Any], Any]) -> None:
    say(m.Init(1, member, 1, 1024, target.layout.pack()), None)
    for chunk in target.chunks:
        say(m.InitChunk(2, member, chunk.index), memoryview(np.ones(chunk.size, chunk.dtype).tobytes()))


_CLASSES = list(m.TYPES.values())


Session = Callable[[int], "Counter[str]"]
"""Says so much, with a seed."""


def sessions(total: int) -> Iterator[tuple[str, Session]]:
    """Yield the sessions of a run of so many messages, by name: to each process, and to workers among liars."""
    each = max(1, total // (len(TARGETS) * len(WHO) + len(JOBS) + len(contradicting.KINDS)))
    for name in TARGETS:
        for who in WHO:
            yield f"{name}, {who}", lambda seed, name=name, who=who: run(name, who, seed, each)  # type: ignore[misc]
    for name in contradicting.KINDS:
        yield f"server told {name}", lambda seed, name=name: contradicting.run(name, seed, each)  # type: ignore[misc]
    for name in JOBS:
        yield f"worker among liars, {name}", lambda seed, name=name: among_liars.run(name, seed, each)  # type: ignore[misc]


def main() -> int:
    """Run for long, and print what was said to whom."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("messages", type=int, nargs="?", default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="of the sessions, those whose name begins so")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began, total = time.monotonic(), Counter[str]()
    low = memory = 0
    for name, session in sessions(asked.messages):
        if not name.startswith(asked.only):
            continue
        found = session(asked.seed)
        total += found
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        low = low or memory
        print(f"{name}: {dict(found)}, {memory} MiB", flush=True)
    print(f"{time.monotonic() - began:.0f} s: {dict(total)}; from {low} to {memory} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
