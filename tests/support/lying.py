"""Lying: servers and a scheduler that say anything to a worker, between the things that are right.

Whatever message of the protocol, with whatever in its fields, at any moment, in any mode; made from the declarations,
see ``schema``. Whom they say it to is in ``among_liars``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import socket
from collections import Counter, deque
from typing import Any, cast

import numpy as np
import zmq

from ps.config import job_from
from ps.config.job import JobConfig
from ps.errors import BadMessage
from ps.protocol import messages as m
from ps.protocol.codec import decode, encode
from ps.protocol.incoming import Incoming
from ps.protocol.layout import Chunk, Layout
from ps.protocol.segment import MappedView, Segment
from ps.protocol.sockets import open_socket
from ps.protocol.transports.shm_channel import ShmChannel
from ps.protocol.transports.zmq_channel import ZmqChannel
from ps.protocol.unix_channel import UnixChannel
from ps.protocol.worker_memory import WorkerMemory
from ps.worker.server_channels import ServerChannels
from ps.xp import HostArray
from support.frames import frame
from support.schema import ends, extreme, fields_of

MEMBER, RANK, SERVERS = 77, 1, 2
OFTEN = m.Heartbeat | m.StopReady
"""What is said once a second, or more often, as long as somebody waits."""
LIES = 0.15
"""How often something is said that is not so, whenever something is said."""
MOST_WAITS, MOST_ASKED = 20_000, 3_000
"""Looks in which nothing was there for a worker that waits, and messages that it says, in one life: more is a hang."""
PATIENCE = 60
"""Such looks after which its servers and its scheduler say nothing more: it has to give them up then."""
GUARD = 4096
"""Bytes on both sides of the weights in which nothing may be written."""
PARAMS = {"w": np.zeros((20, 10), np.float32), "b": np.zeros(30, np.float32), "d": np.zeros(9)}
DATA = np.ones((48, 3), np.float32)

JOBS: dict[str, dict[str, Any]] = {
    **{mode: {"mode": mode} for mode in ("sync", "async", "ssp")},
    "sync clipping": {"clip_norm": 1.0, "on_nan": "skip"},
    "async clipping": {"mode": "async", "clip_norm": 1.0},
    "sync backup": {"workers": 3, "backup_workers": 1},
    "sync overlap": {"overlap": True},
    "ssp overlap": {"mode": "ssp", "overlap": True, "eval_every": 1},
    **{
        f"{mode} {codec}": {"mode": mode, "compress": codec}
        for mode, codec in (("sync", "int8"), ("async", "topk:0.1"), ("ssp", "randomk:0.1"), ("sync", "powersgd:2"))
    },
    "shm sync": {},
    "shm in place": {"params": "auto"},
    "shm async": {"mode": "async"},
    **{
        f"federated {name}": {"mode": "federated", "rounds": 3, **settings}
        for name, settings in (
            ("none", {}),
            ("int8", {"compress": "int8"}),
            ("topk", {"compress": "topk:0.1", "eval_every": 1}),
            ("scaffold", {"algorithm": "scaffold"}),
        )
    },
}
"""The jobs in which a worker is lied to."""

HARMLESS: list[type[m.Message]] = [m.Waiting, m.Error, m.View]
"""What may be said at any time and does not end a wait."""
SAID = [cls for cls in m.TYPES.values() if cls is not m.Welcome]


class Liars:
    """Two servers and a scheduler, for one life of a worker."""

    def __init__(self, name: str, chance: random.Random, room: int) -> None:
        """``room``: how many lies may be told yet."""
        shared = name.startswith("shm")
        settings = {"workers": 2, "servers": SERVERS, "chunk_size": 1024, "optimizer": "sgd:lr=0.1", **JOBS[name]}
        self.job: JobConfig = job_from({**settings, **({"transport": "tcp"} if not shared else {})})
        self.shared, self.in_place = shared, name == "shm in place"
        layout = Layout.of(PARAMS)
        self.layout = layout.with_controls() if self.job.specs.algorithm.name == "scaffold" else layout
        self.chunks = self.layout.chunks(SERVERS, self.job.chunk_bytes)
        self.chance, self.room = chance, room
        self.tact = chance.choice((0.5, 0.9, 0.98))
        """How often lies are such as may be said at that moment."""
        self.now = 100.0
        self.said: Counter[str] = Counter()
        self.latest: deque[str] = deque(maxlen=8)
        self.waits = self.asked = self.alone = 0
        self.version = 0
        self.client: Any = None
        self.ends: list[Any] = []
        """What reaches the worker as each of the servers."""
        self.heard: list[list[Any]] = [[] for _ in range(SERVERS)]
        """The latest that each server was asked."""
        self.guarded: list[HostArray] = []
        self._places = itertools.count()

    # Time, for the worker

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waiting(seconds)

    def waiting(self, seconds: float) -> None:
        """The worker waits, and there is nothing for it."""
        self.waits += 1
        self.alone += 1
        if self.waits > MOST_WAITS:
            raise AssertionError(f"it waits for ever, after {list(self.latest)}")
        self.now += max(seconds, 0.001)
        if self.silent:
            self.now += 2.0
        elif self.room > 0 and self.chance.random() < LIES:
            if self.chance.random() < 0.3 or not self.ends:
                message = self._lie(None)
                self._count(message)
                self.client.hear([message])
            else:
                self._say(self.chance.randrange(len(self.ends)))
        self.client.beat()

    @property
    def silent(self) -> bool:
        """Whether nobody says anything any more."""
        return self.alone > PATIENCE

    # Lies

    def _lie(self, asked: Any) -> m.Message:
        """Return any message, often one that would answer what was asked."""
        chance, known = self.chance, [cls for cls in SAID if asked is not None and cls.__name__ in asked.answers]
        likely = chance.random() < self.tact
        cls = chance.choice(known if known and likely else HARMLESS if chance.random() < 0.2 else SAID)
        fixed: dict[str, Any] = {}
        if chance.random() < 0.8 and (not likely or known or cls in HARMLESS):
            fixed["request"] = getattr(asked, "request", 0)
        if chance.random() < 0.7:
            fixed["chunk"] = getattr(asked, "chunk", 0)
        if cls is m.View and chance.random() < 0.5:
            fixed = {"job": self.job.to_dict(), "members": self._odd_members()}
            fixed["phase"] = chance.choice(("running", "waiting"))
        if cls is m.Waiting and chance.random() < 0.5:
            numbers = [message.request for heard in self.heard for message in heard]
            fixed["unknown"] = tuple(chance.choice(numbers or [0]) for _ in range(chance.choice((1, 3, 1000))))
        if cls is m.Error and chance.random() < 0.7:
            fixed["code"] = "stranger"
        return extreme(cls, chance, **fixed)

    def _odd_members(self) -> tuple[Any, ...]:
        """Return rows of which each may be, and all together may not."""
        rows = [(1 + rank, "server", rank, True, "h, pid 1", ("tcp://h:1",)) for rank in range(SERVERS)]
        rows += [(MEMBER, "worker", RANK, True, "h", ())]
        odd = self.chance.choice(ends(fields_of(m.View)["members"]))
        return tuple(self.chance.sample([*rows, *rows, *odd], self.chance.randrange(len(rows) + 3)))

    def _count(self, message: m.Message) -> None:
        self.room -= 1
        self.said[type(message).__name__] += 1
        self.latest.append(repr(message))

    # As a server

    def take(self, server: int, header: bytes, payload: Any) -> None:
        """The worker has said something to a server."""
        self.asked += 1
        if self.asked > MOST_ASKED:
            raise AssertionError(f"it asks for ever, after {list(self.latest)}")
        message = decode(header)
        if isinstance(message, m.Identify) or self.silent:
            return
        if not isinstance(message, m.Inquire):
            self.alone = 0
        self.heard[server] = [*self.heard[server][-5:], message]
        if self.chance.random() < LIES:
            self._say(server, message)
            if self.chance.random() < 0.5:
                return  # and it hears nothing else
        if answer := self._answer(message):
            self._tell(server, answer, self._weights(answer))

    def _say(self, server: int, asked: Any = None) -> None:
        if self.room <= 0:
            return
        if asked is None and self.heard[server]:
            asked = self.chance.choice(self.heard[server])
        message = self._lie(asked)
        self._count(message)
        payload = self._payload(message) if message.payload != (self.chance.random() < 0.03) else None
        with contextlib.suppress(BadMessage):  # too long to be said
            self._tell(server, message, payload)

    def _payload(self, message: m.Message) -> bytes:
        chunk = self._chunk(message)
        size, kind = chunk.nbytes, self.chance.randrange(6)
        if kind == 0:
            return self.chance.randbytes(self.chance.choice((0, 1, 8, size - 1, size + 1, 4 * size + 300)))
        if kind == 1:
            return np.full(chunk.size, self.chance.choice((np.nan, np.inf, 3e38, -1.0)), chunk.dtype).tobytes()
        made = bytearray(self._weights(message) or b"")
        if kind == 2 and made:
            made[self.chance.randrange(len(made))] = self.chance.randrange(256)
        return bytes(made)

    def _chunk(self, message: Any) -> Chunk:
        index = getattr(message, "chunk", 0)
        return self.chunks[index if index < len(self.chunks) else 0]

    def _weights(self, message: m.Message) -> bytes | None:
        if not message.payload or self.shared:
            return None
        chunk = self._chunk(message)
        if isinstance(message, m.WeightsDelta) and self.job.compress != "none":
            return frame(self.job.compress, chunk.size, chunk.dtype)
        return np.full(chunk.size, 0.5, chunk.dtype).tobytes()

    def _answer(self, asked: Any) -> m.Message | None:
        """Return what an honest server says."""
        number = asked.request
        match asked:
            case m.Attach():
                return m.Attached(number, self.version)
            case m.Push() | m.Skip() if self.job.clips_in_two_phases:
                return m.NormPart(number, asked.chunk, 1.0)
            case m.Push() | m.Skip() | m.Scale():
                self.version = max(self.version, min(asked.clock, 1 << 40) + 1)
                about = number, asked.chunk, self.version, 0
                if not asked.pull:
                    return m.Pushed(*about)
                shown = self.job.compress != "none" and self.chance.random() < 0.7
                return m.WeightsDelta(*about) if shown else m.Weights(*about)
            case m.Pull():
                return m.Weights(number, asked.chunk, max(self.version, min(asked.clock, 1 << 40)), 0)
            case m.Resume():
                return m.UploadState(number, asked.task, ())
            case m.Upload():
                return m.Stored(number, asked.task, asked.chunk)
            case m.Inquire():
                return m.Waiting(number, tuple(asked.requests), 0, ())
            case m.Start() | m.Suspend() | m.Init() | m.InitChunk():
                return m.Ok(number)
        return None

    def _tell(self, server: int, message: m.Message, payload: bytes | None) -> None:
        end, header = self.ends[server], encode(message)
        if self.shared:
            end.send(header)
        else:
            with contextlib.suppress(zmq.Again):
                end.send_multipart([header] if payload is None else [header, payload], zmq.NOBLOCK)

    def pump(self) -> None:
        """Take what the worker has said to the servers."""
        for server, end in enumerate(self.ends):
            if self.shared:
                for header in [] if end.closed else list(end.receive()):
                    self.take(server, header, None)
                continue
            with contextlib.suppress(zmq.Again):
                while True:
                    header, *payload = end.recv_multipart(zmq.NOBLOCK)
                    self.take(server, header, payload)

    # As the scheduler

    def schedule(self, asked: Any) -> list[m.Message]:
        """Return what the scheduler says to something."""
        if self.silent:
            return []
        if not isinstance(asked, m.Heartbeat | m.Hello | m.Identify | m.StopReady):
            self.alone = 0
            self.asked += 1
            if self.asked > MOST_ASKED:
                raise AssertionError(f"it asks for ever, after {list(self.latest)}")
        said: list[m.Message] = []
        if self.room > 0 and self.chance.random() < (0.02 if isinstance(asked, OFTEN) else LIES):
            said.append(self._lie(asked))
            self._count(said[-1])
            if self.chance.random() < 0.5:
                return said
        return [*said, *self._ruling(asked)]

    def _ruling(self, asked: Any) -> list[m.Message]:
        number = getattr(asked, "request", 0)
        match asked:
            case m.Hello() | m.Identify():
                return [m.Welcome(number, MEMBER, RANK, 10.0, self.job.to_dict(), 5, 3, 9), self.view()]
            case m.Heartbeat():
                return [m.HeartbeatAck(asked.epoch)]
            case m.StopReady() | m.StopRequest():
                return [dataclasses.replace(self.view(), epoch=1 << 53, stop="decided", clock=asked.clock)]
            case m.InitRequest():
                return [m.InitGrant(number, self.chance.random() < 0.5)]
            case m.BarrierEnter():
                return [m.BarrierLeave(number, min(asked.clock, 1 << 40))]
            case m.LeaseRequest():
                used = asked.used or asked.wait != "no"
                runs = () if used else ((RANK, 2, asked.cells // 2),)
                return [m.Lease(number, "end" if used else "cells", asked.grid, 0, runs)]
            case m.Poll():
                self.version += 1
                if self.version > 4:
                    return [m.Finished(number, 4)]
                wait = m.Wait(number, self.version, 0.5)
                return [wait if self.chance.random() < 0.2 else m.Assign(number, self.version, 1, 60.0, True, 7)]
            case m.Submit():
                verdict = self.chance.choice(("accepted", "late", "norm"))
                return [m.Submitted(number, asked.task, cast("Any", verdict))]
            case m.InitDone() | m.Leave() | m.Decline():
                return [m.Ok(number)]
        return []

    def view(self) -> m.View:
        """Return who is there."""
        rows: list[Any] = [(1 + rank, "server", rank, True, "h, pid 1", ("tcp://h:1",)) for rank in range(SERVERS)]
        rows += [(MEMBER, "worker", RANK, True, "h, pid 2", ())]
        return m.View(1, "running", "", "", self.job.to_dict(), tuple(rows))

    # The worker's ends

    def open_channels(self, context: zmq.Context[Any], servers: list[Any], *args: Any, **settings: Any) -> Any:
        """Return channels to the servers."""
        self.close()
        self.ends, self.heard = [], [[] for _ in servers]
        channels: list[Any] = []
        memory = WorkerMemory.create(self.layout.nbytes) if self.shared else None
        for _ in servers:
            if memory is not None:
                theirs, ours = socket.socketpair()
                channels.append(ShmChannel(UnixChannel(theirs), memory, None))
                self.ends.append(UnixChannel(ours))
                continue
            end, sock = open_socket(context, zmq.DEALER), open_socket(context, zmq.DEALER)
            address = f"inproc://server-{next(self._places)}"
            end.bind(address)
            self.ends.append(end)
            sock.connect(address)
            channels.append(ZmqChannel(sock, Incoming(sock, "a liar")))
            channels[-1].send(encode(settings["identity"]))
        found = ServerChannels([f"server {rank}" for rank in range(len(servers))], channels, memory)
        found.identity = settings["identity"]
        if self.in_place:
            segment = Segment.create(self.layout.nbytes)
            segment.reserve(0, self.layout.nbytes)
            found.view = MappedView(segment, 0, self.layout.nbytes, writable=False)
        return found

    def twice(self, nbytes: int) -> tuple[HostArray, HostArray]:
        """Return memory for weights with guards on both sides."""
        whole = np.full(nbytes + 2 * GUARD, 0xA5, np.uint8)
        self.guarded.append(whole)
        own = whole[GUARD:-GUARD]
        own[:] = 0
        shown = own.view()
        shown.flags.writeable = False
        return own, shown

    def check(self) -> None:
        """Nothing was written beside the weights."""
        for whole in self.guarded:
            assert (whole[:GUARD] == 0xA5).all() and (whole[-GUARD:] == 0xA5).all(), f"{list(self.latest)}"

    def close(self) -> None:
        for end in self.ends:
            end.close()
