"""RoundSim: a federated job in one thread: the real scheduler, shards and conversations of clients, and many faults.

A channel between two processes keeps its order, as ZeroMQ does; between channels anything may overtake. Messages get
lost or come twice, the scheduler restarts from what it saved, a server is killed, also in the middle of its writing,
and comes back with its state file, clients vanish and lie. Invariants are checked as it goes.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ps.algorithms import ALGORITHMS
from ps.config.job import JobConfig
from ps.protocol.messages import (
    Error,
    Hello,
    HelpOrder,
    Init,
    InitChunk,
    InitDone,
    InitRequest,
    Leave,
    Message,
    RoundOrder,
    Unseal,
    View,
    Welcome,
)
from ps.secure.identity import ThrowawaySigner
from ps.secure.sums import SumHistory
from ps.server.scheduler.state import SchedulerState
from ps.server.send import Send
from ps.server.shard.federated_shard import FederatedShard
from ps.state_file import StateFile
from support.expected import Expected
from support.faults import Faults, Fuse, Killed
from support.promises import check_end, where
from support.simclient import MODEL, SimClient, Vanished, Work
from support.simhelper import HELPER, SimHelper
from support.simtalk import SCHEDULER, Talk

MAX_TIME = 3000.0
"""Virtual seconds in which a job has to be done."""
MAX_VERDICT = 300.0
"""Virtual seconds after which a client that submitted must have heard something."""


class RoundSim:
    """One job. ``characters`` are those of the clients by rank."""

    def __init__(
        self, explicit: dict[str, Any], characters: Sequence[str], seed: int, faults: Faults, folder: Path
    ) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.faults = faults
        self.folder = folder
        self.characters = list(characters)
        self.now = 0.0
        self.explicit = {
            "mode": "federated",
            "servers": 2,
            "workers": len(characters),
            "rounds": 4,
            "chunk_size": 1024,
            "round_deadline": 60.0,
            **explicit,
        }
        self.scheduler = SchedulerState(self.explicit, self.now)
        self.job = JobConfig.from_dict(self.explicit)
        self.layout = MODEL.with_controls() if ALGORITHMS.parse(self.job.algorithm).build().control else MODEL
        self.chunks = self.layout.chunks(self.job.servers, self.job.chunk_bytes)
        self.works: dict[int, Work] = {}
        self.expected = Expected(self.job, self.chunks, self.works)
        self.saved = ""
        self.fuse_scheduler = False
        self.channels: dict[tuple[Any, Any], deque[tuple[Message, Any]]] = {}
        self.servers: dict[int, tuple[int, FederatedShard, Fuse] | None] = {}
        self.back_at: dict[int, float] = {}
        self.talks: dict[int, Talk | None] = {}
        self.signers = [ThrowawaySigner() for _ in characters]
        self.told = [SumHistory() if rank % 2 else None for rank in range(len(characters))]
        """What is on clients' disks: every other one has a state file."""
        self.helper: SimHelper | None = None
        self.nonces = 0
        self.log: list[str] = []
        self._begin()

    def _begin(self) -> None:
        if self.job.specs.secure.build().helper:
            self.helper = SimHelper(f"{self.scheduler.key.job_id:x}", self.job, self.chunks)
        for rank in range(self.job.servers):
            self.servers[rank] = None
            self._start_server(rank)
        for rank in range(self.job.workers):
            self._start_client(rank)
        seeder = next(client.member for client in self.clients.values() if client)
        packed = self.layout.pack()
        self._tell(self.scheduler.receive(InitRequest(1, seeder, packed), self.now), 0)
        said: dict[int, list[Send]] = {}
        for rank, server in self.servers.items():
            assert server is not None
            _, shard, _ = server
            said[rank] = shard.receive(b"", Init(1, seeder, self.job.servers, self.job.chunk_bytes, packed), None, 0.0)
            for chunk in self.chunks:
                if chunk.server == rank:
                    values = self.expected.first(chunk)
                    said[rank] += shard.receive(b"", InitChunk(1, seeder, chunk.index), values.tobytes(), 0.0)
        self._tell(self.scheduler.receive(InitDone(2, seeder), self.now), 0)
        for rank, sends in said.items():
            self._perform(rank, [send for send in sends if not isinstance(send.to, bytes)])

    def _hello(self, role: str, rank: int) -> int:
        """Return the new member's id, 0 when it has to try again."""
        self.nonces += 1
        sends = self.scheduler.receive(Hello(0, self.nonces, role, rank, "host", 1, "", (), {}), self.now)
        welcome = [send.message for send in sends if isinstance(send.message, Welcome)]
        if not welcome:
            return 0
        self._tell([send for send in sends if send.to], 0)
        return welcome[0].member

    def _start_server(self, rank: int) -> None:
        member = self._hello("server", rank)
        if member:
            fuse = Fuse(StateFile(str(self.folder / f"server{rank}")))
            shard = FederatedShard(rank, self.job, self.scheduler.key, fuse, member=member)  # type: ignore[arg-type]
            self.servers[rank] = member, shard, fuse
            self.expected.check(shard)
            self._perform(rank, shard.tick(self.now))

    def _start_client(self, rank: int) -> None:
        member = self._hello("worker", rank)
        self.talks[rank] = None
        if member:
            about = self.job, self.layout, self.seed, self.works, f"{self.scheduler.key.job_id:x}"
            own = self.signers[rank], self.told[rank]
            client = SimClient(member, rank, self.characters[rank], *about, *own)
            post = lambda to, message, payload: self._send(("client", rank), to, message, payload)  # noqa: E731
            talk = self.talks[rank] = Talk(client, post, lambda: self.now)
            talk.wakes = self.now + self.random.random()

    # Clients

    @property
    def clients(self) -> dict[int, SimClient | None]:
        """The processes of the clients, by rank; None where there is none."""
        return {rank: talk.client if talk else None for rank, talk in self.talks.items()}

    def _move(self, talk: Talk, move: Callable[[], None]) -> None:
        """Let a client move, which may be the last that it does."""
        try:
            move()
        except Vanished:
            self._vanish(talk.client.rank)
        if talk.ended:
            self._tell(self.scheduler.receive(Leave(0, talk.client.member, {}), self.now), 0)

    def _lose_servers(self) -> None:
        """Some clients notice that a server is another process now, before it would answer them."""
        for talk in self.talks.values():
            if talk and talk.with_servers and self.random.random() < 0.5:
                self._move(talk, talk.lose_servers)

    def _vanish(self, rank: int) -> None:
        """A client's process is gone; its successor comes when the scheduler has noticed."""
        self.talks[rank] = None
        self.back_at[1000 + rank] = self.now + 15 + self.random.random()
        self._cut(("client", rank))

    # Servers

    def _serve(self, rank: int, source: Any, message: Message, payload: Any) -> None:
        server = self.servers[rank]
        if server is None:
            return
        _, shard, _ = server
        try:
            if isinstance(message, RoundOrder | Unseal):
                sends = shard.order(message)
                self.expected.check(shard)
            elif isinstance(message, View | Error):
                return
            else:
                sends = shard.receive(json.dumps(source).encode(), message, payload, self.now)
        except Killed:
            self._kill(rank, "in the middle of its writing")
            return
        self._perform(rank, sends)

    def _perform(self, rank: int, sends: list[Send]) -> None:
        for send in sends:
            if isinstance(send.to, bytes):
                lent = None if send.loan is None else send.loan.weights.tobytes()
                self._send(("server", rank), tuple(json.loads(send.to)), send.message, lent)
            else:
                payload = None if send.payload is None else send.payload.tobytes()
                self._send(("server", rank), SCHEDULER, send.message, payload)

    def _kill(self, rank: int, why: str) -> None:
        server = self.servers[rank]
        assert server is not None
        self._note(f"server {rank} killed {why}")
        self.servers[rank] = None
        self.back_at[rank] = self.now + self.random.random() * 20
        self._cut(("server", rank))

    # The scheduler

    def _tell(self, sends: Sequence[Send], source: Any) -> None:
        rounds = self.scheduler.rounds
        if self.scheduler.changed or (rounds is not None and rounds.changed):
            state = {"state": self.scheduler.dump()}
            if rounds is not None:
                state |= {"rounds": rounds.dump(), "history": rounds.history}
                rounds.changed = False
                self.expected.look(rounds)
            self.saved = json.dumps(state)
            self.scheduler.changed = False
        if self.fuse_scheduler:
            self._restart()
            return
        places = {server[0]: ("server", rank) for rank, server in self.servers.items() if server}
        places |= {client.member: ("client", rank) for rank, client in self.clients.items() if client}
        for send in sends:
            to = places.get(send.to) if send.to else source
            if to:
                self._send(SCHEDULER, to, send.message)

    def _note(self, what: str) -> None:
        self.log.append(f"{self.phase}: {what}")

    @property
    def phase(self) -> str:
        """The scheduler's phase, while closing what the servers are to do."""
        rounds = self.scheduler.rounds
        assert rounds is not None
        return rounds.phase if rounds.phase != "close" else rounds._contributions.ledger.phase

    def _restart(self) -> None:
        self.fuse_scheduler = False
        self._cut(SCHEDULER)
        saved = json.loads(self.saved)
        self.scheduler = SchedulerState.load(saved["state"], self.now)
        rounds = self.scheduler.rounds
        assert rounds is not None
        rounds.load(saved["rounds"], saved["history"], self.now)
        self._note("scheduler restarted")

    # The network

    def _send(self, source: Any, target: Any, message: Message, payload: Any = None) -> None:
        self.channels.setdefault((source, target), deque()).append((message, payload))

    def _cut(self, place: Any) -> None:
        for key, letters in self.channels.items():
            if place in key:
                letters.clear()

    def _deliver(self, key: tuple[Any, Any]) -> None:
        source, target = key
        message, payload = self.channels[key].popleft()
        if target == SCHEDULER:
            try:
                self._tell(self.scheduler.receive(message, self.now, payload), source)
            finally:
                assert self.scheduler.phase != "failed", (self.scheduler.reason, self.log)
        elif target[0] == "server":
            self._serve(target[1], source, message, payload)
        elif target != HELPER:
            talk = self.talks.get(target[1])
            if talk and not talk.ended:
                self._move(talk, partial(talk.hear, message))

    def run(self) -> None:
        """Let everything happen until all rounds are done. Raises AssertionError when a promise is broken."""
        beat = 0.0
        while self.scheduler.phase != "ended":
            assert self.now < MAX_TIME, f"no end: {where(self)}"
            full = sorted((key for key, letters in self.channels.items() if letters), key=repr)
            rate = self.faults.rate * (8 if self.phase in ("measure", "prepare", "publish") else 1)  # they are short
            if full and self.random.random() < rate:
                self._trouble(full)
                continue
            if full and self.now < beat:
                self._deliver(self.random.choice(full))
                self.now += 0.002
                continue
            self.now = max(self.now, beat)
            beat = self.now + 0.1
            self._beat()
        check_end(self)

    def _beat(self) -> None:
        """What time brings: heartbeats, deaths found out, questions after lost requests, processes that come back."""
        alive = {server[0] for server in self.servers.values() if server}
        alive |= {client.member for client in self.clients.values() if client}
        for member in alive & self.scheduler.members.keys():
            self.scheduler.members[member].seen = self.now
        self._tell(self.scheduler.tick(self.now), 0)
        assert self.scheduler.phase != "failed", (self.scheduler.reason, self.log)
        for rank, server in self.servers.items():
            if server and self.random.random() < 0.1:
                self._perform(rank, server[1].tick(self.now))
        if self.helper is not None and self.random.random() < 0.5:
            self._ask_helper(self.helper)
        for talk in list(self.talks.values()):
            if talk is None or talk.ended:
                continue
            since = talk.client.verdict_since
            assert since is None or self.now - since < MAX_VERDICT, where(self)
            self._move(talk, talk.look_after)
        for place, at in list(self.back_at.items()):
            if at <= self.now and not self.scheduler.over:
                self._come_back(place)

    def _ask_helper(self, helper: SimHelper) -> None:
        """The helper asks what is wanted, and tells servers; what it says gets lost now and then."""
        order, *sends = self.scheduler.help(helper.answer.ask(), self.now)
        self._tell(sends, 0)
        assert isinstance(order.message, HelpOrder)
        for rank, message, words in helper.answer.hear(order.message, self.now):
            if self.faults.losses and self.random.random() < 0.1:
                continue
            self._send(HELPER, ("server", rank), message, words.tobytes())

    def _come_back(self, place: int) -> None:
        if place < 1000:
            self._start_server(place)
            back = self.servers[place] is not None
            if back:
                self._lose_servers()
        else:
            self._start_client(place - 1000)
            back = self.talks[place - 1000] is not None
        if back:
            del self.back_at[place]
        else:
            self.back_at[place] = self.now + 1.0

    def _trouble(self, full: list[tuple[Any, Any]]) -> None:
        kinds = [kind for kind in ("losses", "repeats", "restarts", "kills") if getattr(self.faults, kind) > 0]
        if not kinds:
            self.faults.rate = 0.0
            return
        kind = self.random.choice(kinds)
        key = self.random.choice(full)
        if kind == "losses":
            letters = self.channels[key]
            for _ in range(self.random.randint(1, len(letters))):
                letters.popleft()
        elif kind == "repeats":
            asked = [(talk, number) for talk in self.talks.values() if talk for number in talk.flying]
            if not asked:
                return
            talk, number = self.random.choice(asked)
            talk.ask(number)
        elif kind == "restarts":
            if self.random.random() < 0.5:
                self._restart()
            else:
                self.fuse_scheduler = True
        else:
            rank = self.random.randrange(self.job.servers)
            server = self.servers[rank]
            if server is None:
                return
            if self.random.random() < 0.5:
                self._kill(rank, "between two messages")
            else:
                server[2].left = self.random.randrange(6)
        setattr(self.faults, kind, getattr(self.faults, kind) - 1)

    # What must hold

    @property
    def history(self) -> list[dict[str, Any]]:
        rounds = self.scheduler.rounds
        assert rounds is not None
        return rounds.history

    def weights(self) -> bytes:
        """All weights, chunk by chunk, as the servers have them."""
        states = {i: s for server in self.servers.values() if server for i, s in server[1].chunks.items()}
        return b"".join(states[index].weights.tobytes() for index in sorted(states))
