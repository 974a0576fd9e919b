"""CutSim: a simulated job that makes checkpoints, with disks that take their time or are full.

The cuts of servers, the plans of workers and the scheduler's part are the real ones; a disk finishes what it writes
when the seed has it. What a manifest says to be whole is compared with what each chunk was at its version.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ps.checkpoint.chunk_snapshot import ChunkSnapshot
from ps.config.checkpoint import Every
from ps.protocol.messages import CheckpointOrder
from ps.server.scheduler.checkpoint_cut import Seal
from ps.server.scheduler.checkpoints import Checkpoints
from ps.server.send import Send
from ps.server.shard.chunk import ChunkState
from ps.server.shard.cuts import Cuts
from ps.worker.cut_plan import CutPlan
from support.sim import Sim
from support.simmail import Faults, Letter
from support.simworker import Life, Plan, SimWorker

MANY = 12
"""Checkpoints of a job after which none is made but those that are asked for, so that it comes to an end."""


@dataclass
class CutFaults(Faults):
    """What may go wrong besides, and how often somebody asks for a checkpoint."""

    requests: int = 0
    full_disks: int = 0
    """Parts and manifests for which there is no room."""
    hurries: int = 0
    """Times that somebody is about to end all, and asks for the last checkpoint."""


@dataclass
class Written:
    """A part on its way to a disk."""

    sim: CutSim
    server: int
    folder: str
    copies: list[ChunkSnapshot]
    done: bool = False
    trouble: str = ""
    unwanted: bool = False

    @property
    def held(self) -> int:
        """How many copies of chunks it has in memory."""
        return 0 if self.done else len(self.copies)

    def drop(self) -> None:
        self.unwanted = True
        if self.done:
            self.sim.disk.pop((self.folder, self.server), None)

    def finish(self, trouble: str) -> None:
        key = self.folder, self.server
        self.done, self.trouble = True, trouble or ("it was written before" if key in self.sim.disk else "")
        if not self.trouble and not self.unwanted:
            self.sim.disk[key] = self.copies


@dataclass
class CutWorker:
    """What a simulated worker has for checkpoints. ``kept``: folder -> after how many of its steps it has copied."""

    plan: CutPlan
    kept: dict[str, int] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    """Of each step, the clock after it."""


class CutSimWorker(SimWorker):
    """One that tells its plan of each step, as ``KV`` does, and of each wait in a barrier, as ``ClusterStore``."""

    cut: CutWorker

    def life(self) -> Life:
        part, plan = self.part, self.cut.plan
        join, barrier = part.join, part.barrier

        def joined() -> Any:
            part.join = join  # type: ignore[method-assign]  # again only by those that were late, in mid-step
            found = yield from join()
            plan.go_on(self.clock)
            return found

        def met() -> Any:
            plan.pause()
            try:
                return (yield from barrier())
            finally:
                plan.go_on(self.clock)

        part.join, part.barrier = joined, met  # type: ignore[method-assign]
        return super().life()

    def _step(self) -> Life:
        yield from super()._step()
        self.cut.ends.append(self.clock)
        self.cut.plan.stepped(self.clock)


def digest(chunk: ChunkState | ChunkSnapshot) -> str:
    """Return what there is of a chunk but for whose contributions are counted."""
    if isinstance(chunk, ChunkSnapshot):
        arrays = {name.removeprefix("slot/"): array for name, array in chunk.arrays.items()}
        missed = chunk.missed
    else:
        arrays, missed = {"weights": chunk.weights, **chunk.slots}, chunk.absences.missed
    bits = b"".join(name.encode() + arrays[name].tobytes() for name in sorted(arrays))
    about = chunk.version, chunk.updates, sorted(missed.items()), tuple(chunk.rate)
    return hashlib.sha256(bits + repr(about).encode()).hexdigest()


class CutSim(Sim):
    """One job with checkpoints."""

    worker_kind = CutSimWorker

    def __init__(
        self, explicit: dict[str, Any], plans: Sequence[Plan], seed: int, faults: CutFaults, every: Every, window: int
    ) -> None:
        self.disk: dict[tuple[str, int], list[ChunkSnapshot]] = {}
        self.manifests: dict[str, Seal] = {}
        self.writings: list[Written] = []
        self.cutting: dict[int, CutWorker] = {}
        self.cuts: dict[int, Cuts] = {}
        self.states: dict[tuple[int, int], set[str]] = {}
        """Chunk and version -> what it has been then."""
        self.looked_at: dict[int, tuple[Any, ...]] = {}
        """Chunk -> what told when it was looked at last, as far as that is quickly seen."""
        self.noted = 0
        self.applied_to: dict[int, list[tuple[int, int, int]]] = {}
        """Chunk -> member, rank and clock of all that was applied, in order."""
        self.counted: dict[tuple[int, int], int] = {}
        """Chunk and version -> how many of these had been, at its end."""
        self.promised: list[tuple[int, int, dict[int, int]]] = []
        """Chunk, how many of these are in a checkpoint, and by rank how many clocks it says to be in there."""
        self.most_held = 0
        self.every = every
        self.cut_faults = faults
        super().__init__(explicit, plans, seed, faults, window)
        self.scheduler.checkpoints = Checkpoints(lambda: self._cadence(), 1)
        for server, shard in self.shards.items():
            self.cuts[server] = Cuts(shard, server, lambda f, _, copies, s=server: self._write(s, f, copies))  # type: ignore[misc]

    def _cadence(self) -> Every:
        return self.every if len(self.manifests) < MANY else Every()

    def _write(self, server: int, folder: str, copies: Sequence[ChunkSnapshot]) -> Written:
        self.writings.append(Written(self, server, folder, list(copies)))
        return self.writings[-1]

    # Workers

    def _made(self, worker: SimWorker) -> SimWorker:
        assert isinstance(worker, CutSimWorker)
        plan = CutPlan(lambda: self.now)
        worker.cut = self.cutting[worker.member] = CutWorker(plan)
        empty = worker.rank % 2 == 1
        plan.is_empty, plan.is_exact = lambda: empty, worker.job.lockstep

        def capture() -> None:
            worker.cut.kept[plan._folder] = len(worker.cut.ends)

        plan.capture = capture
        return worker

    def _hear(self, member: int, source: int, letter: Letter) -> None:
        if isinstance(letter.message, CheckpointOrder):
            if member in self.cutting:
                self.cutting[member].plan.hear(letter.message)
        else:
            super()._hear(member, source, letter)
        self._speak(member)

    def _speak(self, member: int) -> None:
        """Have a worker say how far it is with a checkpoint."""
        if member in self.cutting and member not in self.dead and not self.workers[member].finished:
            for message in self.cutting[member].plan.say(member):
                self._send(member, 0, Letter(message))

    # Servers

    def _serve(self, server: int, source: int, letter: Letter) -> None:
        if isinstance(letter.message, CheckpointOrder):
            self._send(server, 0, Letter(self.cuts[server].order(letter.message).message))
        else:
            super()._serve(server, source, letter)
        self._remember(server)

    def _remember(self, server: int) -> None:
        """Note what each chunk is, and that no server has more than one copy of its part."""
        shard = self.shards[server]
        held = len(self.cuts[server]._copies) if server in self.cuts else 0
        held += sum(writing.held for writing in self.writings if writing.server == server)
        self.most_held = max(self.most_held, held)
        assert held <= len(shard.chunks), f"server {server} holds {held} copies of {len(shard.chunks)} chunks"
        for index, chunk in shard.chunks.items():
            about = chunk.version, chunk.updates, len(chunk.absences.missed), chunk.rate
            if chunk.filled and chunk.combined is None and self.looked_at.get(index) != about:
                self.looked_at[index] = about
                self.states.setdefault((index, chunk.version), set()).add(digest(chunk))
        for index, entry in self.log[self.noted :]:
            self.applied_to.setdefault(index, []).extend((member, rank, clock) for member, rank, clock, _ in entry)
        self.noted = len(self.log)
        for index, chunk in shard.chunks.items():
            self.counted[index, chunk.version] = len(self.applied_to.get(index, []))

    def _work(self, server: int) -> None:
        """A server has nothing else to do."""
        cuts = self.cuts[server]
        cuts.turn()
        for send in cuts.news():
            self._send(server, 0, Letter(send.message))
        self._remember(server)

    # The disks

    def _trouble_of_disks(self) -> str:
        if self.cut_faults.full_disks > 0 and self.random.random() < 0.3:
            self.cut_faults.full_disks -= 1
            return "there is no room"
        return ""

    def _seal(self) -> None:
        """Write the manifest that is to be written."""
        saving = self.scheduler.checkpoints
        assert saving is not None
        seal = saving.seal
        if seal is None:
            return
        why = self._trouble_of_disks()
        parts = {rank: self.disk.get((seal.folder, rank + 1)) for rank in seal.servers}
        if not why and not seal.only_end:
            missing = [rank for rank, part in parts.items() if part is None]
            why = f"nothing of server {missing[0]}" if missing else ""
            if seal.folder in self.manifests:
                why = "there is one"
        if not why:
            self._check_cut(seal)
            self.manifests.setdefault(seal.folder, seal)
        self._tell(saving.sealed(seal.number, why, self.now), 0)

    # Events

    def _trouble(self, full: list[tuple[int, int]]) -> bool:
        kind = self.random.randrange(5)
        if kind == 0:
            self._work(self.random.choice(sorted(self.cuts)))
        elif kind == 1 and (late := [writing for writing in self.writings if not writing.done]):
            self.random.choice(late).finish(self._trouble_of_disks())
        elif kind == 2:
            self._seal()
        elif kind == 3 and self._ask():
            pass
        else:
            return super()._trouble(full)
        return True

    def _ask(self) -> bool:
        """Somebody asks for a checkpoint."""
        saving, faults = self.scheduler.saving, self.cut_faults
        if saving is None or not faults.requests:
            return False
        faults.requests -= 1
        if faults.hurries and self.random.random() < 0.2:
            faults.hurries -= 1
            saving.hasten(self.now + 0.02)
        _, sends = saving.request()
        self._tell(sends, 0)
        self._tell(self.scheduler.tick(self.now), 0)
        return True

    def _look_after(self) -> None:
        super()._look_after()
        for server in self.cuts:
            self._work(server)
        for writing in self.writings:
            if not writing.done and self.random.random() < 0.7:
                writing.finish(self._trouble_of_disks())
        self.writings = [writing for writing in self.writings if not writing.done]
        for server in self.cuts:
            self._work(server)
        self._seal()
        for member in self.cutting:
            self._speak(member)

    def _restart(self) -> None:
        super()._restart()
        newest = max(((seal.step, folder) for folder, seal in self.manifests.items()), default=(-1, ""))
        names = self.scheduler.cut_names
        self.scheduler.checkpoints = Checkpoints(lambda: self._cadence(), 1, newest, self.now, names)

    def _tell(self, sends: Sequence[Send], source: int) -> None:
        saving = self.scheduler.checkpoints
        if saving is not None and saving.names != self.scheduler.cut_names:
            self.scheduler.cut_names, self.scheduler.changed = saving.names, True
        super()._tell(sends, source)

    # Invariants

    def _check_cut(self, seal: Seal) -> None:
        """What is about to be called whole is the state of one clock, or of what it says to be counted."""
        if seal.only_end:
            assert self.manifests[seal.folder].step == seal.step
            return
        copies = [copy for rank in seal.servers for copy in self.disk[seal.folder, rank + 1]]
        assert sorted(copy.chunk.index for copy in copies) == sorted(chunk.index for chunk in self.cut)
        job = self.scheduler.job
        assert job is not None
        for copy in copies:
            key = copy.chunk.index, copy.version
            assert digest(copy) in self.states[key], f"chunk {key} of {seal.folder} is not what it was"
            if job.lockstep:
                assert copy.version == seal.step, f"chunk {key} in {seal.folder}"
            else:
                self.promised.append((key[0], self.counted[key], dict(copy.done)))
        if job.lockstep:
            told = {rank for rank, about in seal.workers.items() if "lost" not in about}
            for member, worker in self.workers.items():
                kept = self.cutting[member].kept.get(seal.folder)
                if worker.rank in told and kept is not None:
                    told.discard(worker.rank)
                    due = self._due(member, seal.step)
                    assert kept in due, f"{worker.rank} keeps what it had after {kept} steps, not {due}: {seal.folder}"
            assert all(rank % 2 for rank in told), f"nothing of workers {told} in {seal.folder}"

    def _due(self, member: int, step: int) -> tuple[int, ...]:
        """Return after how many of its steps a worker's own state is what belongs to a clock: all that have ended by
        then. One that ended just there because it was told to be late, which no chunk has counted, belongs to neither
        side: who stood in a barrier has copied before it, who came out in time after it.
        """
        worker = self.workers[member]
        assert isinstance(worker, CutSimWorker)
        ends = worker.cut.ends
        due = sum(clock <= step for clock in ends)
        counted = {clock for entries in self.applied_to.values() for who, _, clock in entries if who == member}
        inside = sum(clock in counted for clock in worker.steps[:due])
        assert inside == sum(clock < step for clock in counted), (
            f"{worker.rank} was not through with clocks before {step}"
        )
        if due and ends[due - 1] == step and worker.steps[due - 1] not in counted:
            return due - 1, due
        return (due,)

    def _check_end(self) -> None:
        saving = self.scheduler.checkpoints
        assert saving is not None
        for _ in range(100):
            if self.scheduler.over or self._is_kept():
                break
            self._look_after()
            self._drain()
            saving = self.scheduler.checkpoints
        if saving.verdict and self.scheduler.phase == "failed":
            assert "no room" in saving.verdict or "only a part was taken" in saving.verdict, saving.verdict
            self.scheduler.phase = "ended"  # it is, but for its checkpoint
        super()._check_end()
        holders = Counter(worker.rank for worker in self.workers.values())
        for index, count, done in self.promised:
            for number, (_, rank, clock) in enumerate(self.applied_to.get(index, [])):
                if holders[rank] > 1:  # one that has come in another's place has clocks of its own
                    continue
                is_in = clock < done.get(rank, 0)
                assert is_in == (number < count), f"chunk {index}: clock {clock} of worker {rank} would count otherwise"
        self.every = Every()
        for _ in range(20):
            self._look_after()
            self._drain()
        cut = saving._cut
        assert cut is None or cut.planned, f"a cut is never over: {cut}"
        if cut is None:
            assert not self._left(), f"left by cuts that are over: {self._left()}"

    def _left(self) -> list[str]:
        """Return what is marked, copied or being written."""
        found = []
        for server, cuts in self.cuts.items():
            found += [f"copies of server {server}"] * bool(cuts._copies)
            chunks = self.shards[server].chunks.values()
            found += [f"mark of chunk {chunk.chunk.index}" for chunk in chunks if chunk.mark != -1 or chunk.keepers]
        return found
