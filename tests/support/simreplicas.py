"""ReplicatedSim: a simulated job whose servers have standbys, any of which is killed, or stands still, at any message.

What a server has sent when it is killed arrives as far as a seed has it. One that stands still is taken for dead, and
goes on where it was later: what it says then comes to all who still listen. Others come in the place of the dead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ps.protocol.membership import peers
from ps.protocol.messages import (
    Error,
    Message,
    ReplicaArray,
    ReplicaFilled,
    ReplicaModel,
    ReplicaParticipants,
    ReplicaPing,
    ReplicaReady,
    ReplicaRecord,
    ReplicaRequest,
    View,
    Weights,
)
from ps.server.scheduler.member_record import DEAD
from ps.server.send import Send
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.replication.backup import Backup
from ps.server.shard.replication.primary import PrimaryShard
from support.sim import Sim
from support.simmail import Faults, Letter
from support.simprocess import SimProcess
from support.simworker import LAYOUT, Plan, first_values, gradient

RECORDS = ReplicaModel | ReplicaParticipants | ReplicaArray | ReplicaRecord | ReplicaFilled
ROOM = 3 << 10
"""Bytes on their way to a standby: three chunks, so that there is seldom room for all."""


class ReplicatedSim(Sim):
    """One job. ``kills`` and ``stops``: how many servers may be killed, and stand still."""

    def __init__(self, explicit: dict[str, Any], plans: Sequence[Plan], seed: int, kills: int, stops: int = 0) -> None:
        self.primaries: dict[int, PrimaryShard] = {}
        self.backups: dict[int, Backup] = {}
        self.rank_of: dict[int, int] = {}
        """Server -> the rank that it holds, or is there for."""
        self.holders: dict[int, dict[int, int]] = {}
        """Worker -> rank -> the server that it takes answers from."""
        self.undiscovered: list[int] = []
        self.asleep: set[int] = set()
        self.kills, self.stops = kills, stops
        self.asked = 0
        self._lines: dict[int, int] = {}
        """Standby -> the server that it has a line to."""
        self.zombies: set[int] = set()
        """Who stood still, was taken for dead, and goes on where it was."""
        self.killed = self.promoted = 0
        super().__init__({"replicas": 1, **explicit}, plans, seed, Faults())

    @property
    def servers(self) -> int:
        return int(self.explicit.get("servers", 1))

    def _seat_servers(self) -> None:
        for rank in range(2 * self.servers):
            self._come(rank)

    def _come(self, nonce: int) -> None:
        """A server process joins."""
        before = set(self.scheduler.members)
        self._hello("server", nonce)
        found = set(self.scheduler.members) - before
        assert len(found) == 1
        member = found.pop()
        rank = self.scheduler.members[member].rank
        self.rank_of[member] = rank % self.servers
        shard = GradientShard(rank % self.servers)
        if rank < self.servers:
            self.shards[member] = shard
            self.primaries[member] = PrimaryShard(shard, member, awaits=True)
        else:
            self.backups[member] = Backup(shard, member)

    def _servers(self) -> list[int]:
        return [member for member in (*self.primaries, *self.backups) if member not in self.asleep]

    # What servers do

    def _serve(self, server: int, source: int, letter: Letter) -> None:
        if server in self.backups:
            self._serve_backup(server, source, letter)
            return
        super()._serve(server, source, letter)

    def _take(self, server: int, origin: bytes, message: Message, payload: bytes | None) -> list[Send]:
        return self.primaries[server].receive(origin, message, payload, self.now)

    def _show_server(self, server: int, view: View) -> list[Send]:
        return self.primaries[server].view(view, self.now)

    def _serve_backup(self, server: int, source: int, letter: Letter) -> None:
        backup, message = self.backups[server], letter.message
        if isinstance(message, View):
            if message.epoch > self.epochs.get(server, -1):
                self.epochs[server] = message.epoch
                self._seen_by_backup(server, message)
            return
        if source == 0:
            return
        if source != self._lines.get(server):  # an old line
            return
        if isinstance(message, ReplicaPing):
            backup.demand(message.number)
        elif isinstance(message, ReplicaModel) and not message.layout:
            self.backups[server] = fresh = Backup(GradientShard(self.rank_of[server]), server)
            fresh.shard.job = backup.shard.job
            self._ask(server)
            return
        elif isinstance(message, RECORDS):
            if letter.reply is not None and letter.reply.loan is not None:
                letter.reply.loan.tracker = letter
            backup.take(message, letter.copy)
        else:
            return
        self._to_primary(server, backup.acknowledgement)
        if self.random.random() < 0.7:
            self._work(server)
        if backup.filled:
            self._schedule(server, ReplicaReady(server, source))

    def _work(self, server: int) -> None:
        backup = self.backups[server]
        while backup.busy:
            backup.work()
        self._to_primary(server, backup.acknowledgement)

    def _to_primary(self, server: int, message: Message) -> None:
        self._send(server, self._lines[server], Letter(message))

    def _ask(self, server: int) -> None:
        self.asked += 1
        self._to_primary(server, ReplicaRequest(self.asked, server, ROOM, weights=False))

    def _seen_by_backup(self, server: int, view: View) -> None:
        backup, rank = self.backups[server], self.rank_of[server]
        if view.job:
            backup.shard.job = type(backup.shard.job).from_dict(view.job)
        shown = {peer.rank: peer.member for peer in peers(view) if peer.role == "server"}
        if shown.get(rank) == server:
            self._promote(server, view)
        elif shown.get(rank) and self._lines.get(server) != shown[rank] and view.job:
            self._lines[server] = shown[rank]
            self._ask(server)

    def _promote(self, server: int, view: View) -> None:
        backup = self.backups.pop(server)
        assert backup.filled, "a standby that does not have all was given its server's rank"
        former = self._lines.pop(server)
        if former in self.asleep or self.random.random() < 0.5:
            self.channels.pop((former, server), None)
        while self.channels.get((former, server)):
            letter = self.channels[former, server].popleft()
            if isinstance(letter.message, RECORDS):
                backup.take(letter.message, letter.copy)
        shard = backup.finish()
        self.shards[server] = shard
        self._spy(shard)
        self.primaries[server] = PrimaryShard(shard, server, awaits=False)
        self.promoted += 1
        self._perform(server, self.primaries[server].view(view, self.now))

    # What workers see

    def _show(self, member: int, view: View) -> None:
        """A worker goes by a view."""
        found = {p.rank: p.member for p in peers(view) if p.role == "server" and p.rank < self.servers}
        holders = self.holders.setdefault(member, {rank: rank + 1 for rank in range(self.servers)})
        for rank, server in found.items():
            if holders[rank] != server:
                holders[rank] = server
                self.processes[member].move(rank, server)

    def _answer(self, process: SimProcess, source: int, message: Message, payload: bytes | None) -> None:
        holders = self.holders.setdefault(process.worker.member, {rank: rank + 1 for rank in range(self.servers)})
        rank = self.rank_of[source]
        if holders[rank] != source:
            return
        if isinstance(message, Error):
            raise AssertionError(f"worker {process.worker.rank} is told {message!r}")
        process.hear(rank, message, payload)

    # What goes wrong

    def _trouble(self, full: list[tuple[int, int]]) -> bool:
        dice = self.random
        if self.undiscovered and dice.random() < 0.5:
            member = self.undiscovered.pop(0)
            record = self.scheduler.members[member]
            self._tell(self.scheduler.lose(record, DEAD, "killed", self.now), 0)
            self._tell(self.scheduler.news(), 0)
            return True
        if self.asleep and dice.random() < 0.3:
            self._wake(dice.choice(sorted(self.asleep)))
            return True
        servers = [m for m in (*self.primaries, *self.backups) if m not in self.dead | self.asleep]
        victims = [m for m in servers if self._may_die(m)]
        if not victims or self.scheduler.over or not (self.kills or self.stops):
            return False
        member = dice.choice(victims)
        self.killed += 1
        for worker in self.workers.values():
            worker.undisturbed = False
        if self.stops and (not self.kills or dice.random() < 0.5):
            self.stops -= 1
            self.asleep.add(member)
            self.undiscovered.append(member)
        else:
            self.kills -= 1
            self._die(member)
            self.undiscovered.append(member)
        return True

    def _may_die(self, member: int) -> bool:
        """Whether the promise covers it: of a server and its standby that has all, one."""
        if self.undiscovered or self.asleep:
            return False
        if self.scheduler.members[member].rank >= self.servers:
            return True
        standby = self.scheduler._roster.at("server", self.servers + self.rank_of[member])
        return standby is not None and standby.in_sync and standby.member not in self.dead

    def _die(self, member: int) -> None:
        self.dead.add(member)
        for (source, target), letters in self.channels.items():
            if source == member:
                keep = self.random.randint(0, len(letters))
                while len(letters) > keep:
                    letters.pop().sent = True
            elif target == member:
                for letter in letters:
                    letter.sent = True
                letters.clear()
        self._forget(member)

    def _forget(self, member: int) -> None:
        self.shards.pop(member, None)
        self.primaries.pop(member, None)
        self.backups.pop(member, None)
        self._lines.pop(member, None)

    def _wake(self, member: int) -> None:
        """One that stood still goes on; it hears soon that it was taken for dead."""
        if member in self.undiscovered:
            return
        self.asleep.discard(member)
        self.zombies.add(member)

    def _deliver(self, key: tuple[int, int]) -> None:
        source, target = key
        if target in self.asleep or source in self.asleep:
            others = [k for k, letters in self.channels.items() if letters and not {*k} & self.asleep]
            if not others:
                self._look_after()
                for member in [m for m in self.asleep if m not in self.undiscovered]:
                    self._wake(member)
                return
            key = self.random.choice(others)
        if key[1] in self.zombies and self.random.random() < 0.1:  # the scheduler tells it that it was taken for dead
            self.zombies.discard(key[1])
            self._die(key[1])
            return
        super()._deliver(key)

    def _look_after(self) -> None:
        while self.undiscovered:
            member = self.undiscovered.pop(0)
            self._tell(self.scheduler.lose(self.scheduler.members[member], DEAD, "killed", self.now), 0)
            self._tell(self.scheduler.news(), 0)
        super()._look_after()
        for server, primary in list(self.primaries.items()):
            if server not in self.asleep:
                self._perform(server, primary.tick(self.now))
        for server in [m for m in self.backups if m in self._lines and m not in self.asleep]:
            self._work(server)
        self._refill()

    def _refill(self) -> None:
        """Servers come in the place of those that are gone."""
        wanted = 2 * self.servers - self.scheduler.count("server") - len(self.scheduler._roster.standbys)
        for _ in range(wanted if not self.scheduler.over else 0):
            self._come(2000 + len(self.rank_of))

    def _check_end(self) -> None:
        current = {record.member for record in self.scheduler.members.values() if record.role == "server"}
        current -= self.zombies | self.asleep
        for member in set(self.shards) - current:
            self._forget(member)
        for shard in self.shards.values():
            for chunk in shard.chunks.values():
                assert not chunk.waiters and not chunk.pending and chunk.combined is None, "somebody was forgotten"
        assert self.scheduler.phase == "ended", (self.scheduler.phase, self.scheduler.reason)

    def _done(self, member: int) -> int:
        """Clocks of which every chunk has this worker's contribution, on any server that has the chunk."""
        most: dict[int, int] = {}
        copies = [*self.shards.values(), *(backup.shard for backup in self.backups.values())]
        for index, chunk in ((i, chunk) for shard in copies for i, chunk in shard.chunks.items()):
            most[index] = max(most.get(index, 0), chunk.done.get(member, 0))
        return min(most.values())

    def _check_values(self, message: Message, copy: bytes) -> None:
        if isinstance(message, Weights):
            super()._check_values(message, copy)

    @property
    def seeder(self) -> int:
        """The rank of the worker whose first values count."""
        return next(worker.rank for worker in self.workers.values() if worker.seeded)

    def counted(self, lr: float) -> float:
        """How far the weights are, at most, from the first values less every step of every worker, counted once."""
        found, chunks = np.frombuffer(self.weights(), np.float32), LAYOUT.chunks(self.servers, 1024)
        expected = []
        for chunk in chunks:
            values = first_values(chunk, self.seeder).astype(np.float64)
            for worker in self.workers.values():
                for clock in worker.steps:
                    values -= lr * gradient(worker.rank, clock, chunk).astype(np.float64)
            expected.append(values)
        return float(np.abs(found - np.concatenate(expected)).max())

    def _holders(self) -> Iterator[GradientShard]:
        """Yield who holds the ranks now; of a server that was killed when the job had ended its standby."""
        for rank in range(self.servers):
            found = (self.scheduler._roster.at("server", each) for each in (rank, self.servers + rank))
            member = next(record.member for record in found if record is not None and record.member not in self.dead)
            yield self.shards[member] if member in self.shards else self.backups[member].finish()
