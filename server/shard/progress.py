"""Progress: what follows for a chunk from what has happened to it. The mode decides, this performs."""

from __future__ import annotations

from collections.abc import Iterator

from ps.config.job import JobConfig
from ps.protocol.messages import NormPart, Pushed, Vetoed, Weights
from ps.protocol.messages.rate import UNSAID, Rate, latest
from ps.server.modes import build
from ps.server.send import Send
from ps.server.shard.chunk import ChunkState, Combined, Contribution, Participant, Waiter
from ps.server.shard.compression import ShardCompression
from ps.server.shard.crew import counted
from ps.server.shard.update import Updater, absent_from
from ps.trace import OFF, PASS, Trace


class Progress:
    """Closes clocks, applies contributions and answers requests, by the job's configuration."""

    def __init__(
        self, job: JobConfig, participants: dict[int, Participant], trace: Trace = OFF, threads: int = 0
    ) -> None:
        """``participants`` is the shard's own table of its workers; it is only read here."""
        self.mode = build(job)
        self.updater = Updater(job, threads)
        self._participants = participants
        self._trace = trace
        self.compression = ShardCompression(job) if job.compress != "none" else None
        self._backups = job.lockstep and job.backup_workers > 0
        self._lockstep = job.lockstep
        self._clips = job.clips_in_two_phases

    def advance(self, chunk: ChunkState) -> Iterator[Send]:
        """Apply what is due and answer whoever may go on, until nothing more follows from it."""
        while True:
            while (due := self.mode.ready(chunk, self._participants)) is not None:
                yield from self._close(chunk, due)
            holds = len(chunk.holds)
            if chunk.waiters:
                yield from self._answer_those_who_may_go_on(chunk)
            clock = self.mode.advance_to(chunk, self._participants)
            if clock == chunk.version and len(chunk.holds) == holds:
                return
            chunk.go_to(clock)

    def scale(self, chunk: ChunkState, factor: float) -> None:
        """Apply the combined gradient that waits, times ``factor``, and close its clock."""
        combined, chunk.combined = chunk.combined, None
        if combined is not None:
            self.updater.apply_combined(chunk, combined, factor)
            chunk.examples += combined.examples
            chunk.close()

    def blockers(self, chunk: ChunkState, waiter: Waiter) -> tuple[int, ...]:
        """Return the ranks that a request waits for."""
        if chunk.combined is not None:
            return tuple(sorted(self._participants[member].rank for member in chunk.combined.scalers))
        return self.mode.blockers(chunk, waiter, self._participants)

    def wants(self, chunk: ChunkState, rank: int) -> bool:
        """Whether a request about this chunk waits for the worker of this rank."""
        waiters = chunk.waiters
        return bool(waiters) and rank in self.blockers(chunk, max(waiters, key=lambda waiter: waiter.clock))

    def _close(self, chunk: ChunkState, due: list[Contribution]) -> Iterator[Send]:
        """Take contributions into the weights, or combine them for their norm to be known first."""
        chunk.keep(chunk.version + 1)  # before anything of the chunk is other than its version says
        for contribution in due:
            del chunk.pending[contribution.member]
        rate = self._rate(chunk, due)
        tally = (0, 0.0) if chunk.vetoed == chunk.version else counted(due)
        chunk.tally = chunk.version, *tally
        if self._clips:
            yield from self._combine(chunk, due, rate)
            return
        staleness = {c.member: self.mode.staleness(chunk, c, self._participants) for c in due}
        clocks = {c.member: c.clock for c in due}
        since = self._trace.now()
        self.updater.apply(chunk, due, max(staleness.values()), rate)
        self._show("apply", since, chunk, due)
        chunk.examples += tally[1]
        chunk.close()
        for waiter in chunk.waiters:
            if clocks.get(waiter.member, -1) + 1 == waiter.clock:
                waiter.staleness = staleness[waiter.member]

    def _rate(self, chunk: ChunkState, due: list[Contribution]) -> Rate:
        """Note what contributions say of the learning rate; return which word counts for them.

        It is the same for all chunks of a clock, or of a worker's step where steps are applied alone. With backup
        workers chunks have different contributors: what is new counts only once all know of it, one clock later.
        """
        before = chunk.rate
        if before == UNSAID and not any(contribution.rates for contribution in due):
            return UNSAID
        chunk.rate = latest([before, *(rate for contribution in due for rate in contribution.rates)])
        if self._backups:
            return latest([before, *(rate for contribution in due for rate in contribution.rates[:1])])
        return chunk.rate if self._lockstep else latest(due[0].rates)

    def _combine(self, chunk: ChunkState, due: list[Contribution], rate: Rate) -> Iterator[Send]:
        since = self._trace.now()
        gradient, squares = self.updater.combine(chunk, due)
        self._show("combine", since, chunk, due)
        scalers = {contribution.member for contribution in due} & self._participants.keys()
        if not scalers:  # nobody is left who could say by how much to scale it
            return
        chunk.combined = Combined(chunk.version, gradient, squares, scalers, rate, absent_from(due), chunk.tally[2])
        chunk.squares = (chunk.version, squares)
        asked = [w for w in chunk.waiters if w.member in scalers and w.clock == chunk.version + 1 and not w.pull]
        chunk.waiters = [w for w in chunk.waiters if w not in asked]
        for waiter in asked:
            yield Send(waiter.origin, NormPart(waiter.request, chunk.chunk.index, squares))

    def _answer_those_who_may_go_on(self, chunk: ChunkState) -> Iterator[Send]:
        last = self.mode.answered_until(chunk, self._participants)
        due = [waiter for waiter in chunk.waiters if waiter.clock <= last]
        if due:
            chunk.waiters = [waiter for waiter in chunk.waiters if waiter.clock > last]
        for waiter in due:
            yield self._answer(chunk, waiter)

    def _show(self, what: str, since: int, chunk: ChunkState, due: list[Contribution]) -> None:
        """Show the work on a chunk in the trace, and whose gradients it was for."""
        if self._trace.on:
            index = chunk.chunk.index
            self._trace.add("apply", since, name=what, clock=due[0].clock, chunk=index, size=chunk.chunk.nbytes)
            for contribution in due:
                self._trace.link(PASS, "apply", since, contribution.rank, contribution.clock, index)

    def _answer(self, chunk: ChunkState, waiter: Waiter) -> Send:
        index = chunk.chunk.index
        if chunk.vetoed == waiter.clock - 1 and (not waiter.pull or waiter.version == chunk.vetoed):
            return Send(waiter.origin, Vetoed(waiter.request, index, chunk.version, waiter.staleness, chunk.rates))
        if not waiter.pull:
            return Send(waiter.origin, Pushed(waiter.request, index, chunk.version, waiter.staleness, chunk.rates))
        if chunk.holds.get(waiter.member, waiter.clock + 1) <= waiter.clock:
            chunk.release(waiter.member)
        if self.compression is not None:
            return self.compression.answer(chunk, waiter)
        made = Weights(waiter.request, index, chunk.version, waiter.staleness, chunk.rates)
        if waiter.in_place:
            return Send(waiter.origin, made)
        return Send(waiter.origin, made, chunk.lend(), waiter.aside)
