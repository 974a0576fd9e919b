"""ModelFollower: snapshots of a job's model while it is trained, from outside of the job."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from ps import sigterm
from ps.errors import ConnectTimeout, JobEnded, PeerLost, ServerLost, UsageError
from ps.following.entry import JobEntry, demand_going, enter, entry_of
from ps.following.reading import ChunkSet, Reading
from ps.following.servers import Servers
from ps.following.snapshot import Snapshot, precision
from ps.protocol.addresses import check_address
from ps.protocol.error_codes import refusal
from ps.protocol.messages import Error, Followed, FollowRequest, Mark, Message, Moved, Peeked, Received
from ps.protocol.query import ask
from ps.protocol.security import Security
from ps.threads import give_way

log = logging.getLogger("ps.follow")

BEAT = 2.0
"""Seconds between two signs of life; a follower that gives none for five times as long is forgotten."""
SILENT = 1.0
"""Seconds in which a server answers a sign of life; else the scheduler is asked what has become of it."""
LOST = 20.0
"""Seconds of silence after which a server is given up that the scheduler does not replace, at least."""
LOOK = 5.0
"""Seconds between two questions to the scheduler which servers there are, where some may come."""
STUCK = 60.0
"""Seconds, as this process runs, in which some of a snapshot has to come."""
TURN = 0.5
"""Seconds that count of a turn of the thread: while it stood still nothing was read that may have come."""
ANSWER = 2.0
"""Seconds for which the scheduler's answer is waited for meanwhile."""
AGAIN = 1.0
"""Seconds after which it is asked again."""
LAST_WORD = 0.2
"""Seconds for which the servers are told that the last weights are here, or are not wanted any more."""
NICE = 10
SLICE, SHORT = 0.05, 0.005
"""Seconds of one look at the sockets, and of one wait of the reader; of one while a snapshot is on its way."""


class ModelFollower(Iterator[Snapshot]):
    """Yields snapshots, and the last one when the job has ended; made by ``ps.follow``.

    A thread keeps the talk with the servers up, so that the last snapshot comes also to a reader that is at long work.
    ``close`` ends it, as does the end of a ``with`` block.
    """

    def __init__(self, scheduler: str, *, every: float, masters: bool, timeout: float, keys: str | None = None) -> None:
        self._keys = keys
        self.address = check_address(scheduler)
        self._every, self._masters = every, masters
        self._entry = enter(self.address, timeout, log.info, keys)
        self._numbers = itertools.count(1)
        self._condition = threading.Condition()
        self._wanted = False
        self._ready: Snapshot | None = None
        self._error: Exception | None = None
        self._over = False
        self._next = time.monotonic()
        """When the next snapshot is due."""
        self._reading: Reading | None = None
        self._last: ChunkSet | None = None
        self._heard = dict.fromkeys((peer.rank for peer in self._entry.servers), time.monotonic())
        self._where: dict[int, int] = {}
        """Chunk -> rank of its server, of those that servers said are elsewhere."""
        self._strays = False
        """Whether a server has chunks that is not known yet."""
        self._stuck = 0.0
        """Seconds since some of a snapshot has come that is on its way."""
        self._thread = threading.Thread(target=self._run, name="ps-follow", daemon=True)
        self._thread.start()

    @property
    def job(self) -> str:
        """What the job is called, and no other."""
        return f"{self._entry.job_id:x}"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the tensors that a snapshot has, by name."""
        return {tensor.name: tensor.shape for tensor in self._entry.layout.tensors if tensor.kind != "control"}

    # The reader's side

    def __next__(self) -> Snapshot:
        """Return a snapshot that is made now, ``every`` seconds after the one before at the earliest.

        Raises StopIteration after the last, PeerLost when the job fails or is not there any more.
        """
        with self._condition:
            while self._ready is None:
                if self._error is not None:
                    raise self._error
                if self._over:
                    raise StopIteration
                self._wanted = True
                self._condition.wait(SLICE)
                sigterm.check()
            found, self._ready = self._ready, None
            return found

    def close(self) -> None:
        """Follow no more. Twice does nothing."""
        self._over = True
        self._thread.join()

    def __enter__(self) -> ModelFollower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The thread

    def _run(self) -> None:
        give_way(NICE)  # training on the same machine goes first: also before what ZeroMQ starts from here
        self._servers = Servers(Security.to_ask(self.address, self._keys))
        try:
            self._servers.connect(self._entry.servers, self._entry.chunk_bytes)
            beat, asked = 0.0, time.monotonic()
            before = asked
            while not self._over:
                now = time.monotonic()
                self._demand_progress(min(now - before, TURN))
                self._excuse(now - before - TURN)
                before = now
                if now - beat >= BEAT:
                    beat = now
                    clock = self._reading.clock if self._reading is not None else -1
                    for rank in self._heard:
                        self._servers.send(rank, self._mark(clock))
                astray = self._strays or (self._reading is not None and self._reading.strays)
                lost = min(self._heard.values()) < (beat if now - beat > SILENT else beat - BEAT) or astray
                if now - asked > AGAIN and (lost or (self._entry.has_comers and now - asked > LOOK)):
                    self._ask_scheduler()
                    asked = time.monotonic()
                self._go_on(now)
                for rank, message, payload in self._servers.receive(SLICE if self._reading is None else SHORT):
                    self._hear(rank, message, payload, time.monotonic())
        except Exception as error:
            self._error = error
        finally:
            self._over = True
            for rank in self._heard if self._last is None or self._last.missing else ():
                self._servers.send(rank, Received(next(self._numbers), -1))
            self._servers.close(LAST_WORD)

    def _mark(self, clock: int) -> Mark:
        return self._entry.permit.mark(next(self._numbers), clock, masters=self._masters)

    def _go_on(self, now: float) -> None:
        if self._reading is None and self._wanted and now >= self._next and self._last is None:
            self._next = now + self._every
            self._reading = self._begin(now)
        if self._reading is not None:
            for rank, message in self._reading.tick(now):
                self._servers.send(rank, message)

    def _begin(self, now: float) -> Reading:
        entry = self._entry
        self._stuck = 0.0
        return Reading(
            entry.layout,
            entry.job,
            entry.permit,
            self._numbers,
            masters=self._masters,
            now=now,
            servers=sorted(self._heard),
            where=self._where,
        )

    def _demand_progress(self, seconds: float) -> None:
        """So much time has passed. Raises ServerLost where a snapshot is on its way and nothing of it comes."""
        self._stuck = 0.0 if self._reading is None else self._stuck + seconds
        if self._stuck > STUCK:
            raise ServerLost(
                f"the servers of the job at {self.address} answer, but nothing of a snapshot has come for {STUCK:g} s. "
                f"Try: psctl status --scheduler {self.address}"
            )

    def _excuse(self, seconds: float) -> None:
        """This process stood still for so long, if at all, which is no silence of servers."""
        if seconds > 0:
            now = time.monotonic()
            self._heard = {rank: min(now, at + seconds) for rank, at in self._heard.items()}

    def _hear(self, rank: int, message: Message, payload: Any, now: float) -> None:
        if rank not in self._heard:
            return  # it has gone
        self._heard[rank] = now
        if isinstance(message, Error) and message.code != "bad-message":
            raise refusal(message, f"server {rank}")
        if isinstance(message, Peeked) and message.final:
            self._take_last(message, payload)
            self._servers.send(rank, Received(next(self._numbers), message.chunk))
            return
        if isinstance(message, Moved) and message.rank not in self._heard:
            self._strays = True
        reading = self._reading
        if reading is None:
            return
        if isinstance(message, Peeked):
            self._stuck = 0.0
        for to, question in reading.hear(rank, message, payload, now):
            self._servers.send(to, question)
        if reading.done:
            self._reading = None
            for each in self._heard:
                self._servers.send(each, self._mark(-1))
            self._deliver(reading.found, reading.clock, final=False)

    def _take_last(self, message: Peeked, payload: Any) -> None:
        if self._last is None:
            self._reading = None
            entry = self._entry
            chunks = entry.layout.cut(entry.job)
            self._last = ChunkSet.of(entry.layout, chunks, masters=self._masters)
        self._last.take(message.chunk, message.clock, payload)
        if not self._last.missing:
            if len(clocks := self._last.clocks) > 1 and self._entry.job.lockstep:
                log.warning("the last snapshot has tensors of the clocks %s", sorted(clocks))
            self._deliver(self._last, max(self._last.clocks), final=True)
            self._over = True

    def _deliver(self, found: ChunkSet, clock: int, *, final: bool) -> None:
        entry = self._entry
        kinds = {tensor.name: tensor.kind for tensor in entry.layout.tensors}
        tensors = {name: v for name, v in entry.layout.views(found.flat).items() if kinds[name] != "control"}
        said = precision(entry.layout, masters=self._masters)
        with self._condition:
            self._ready = Snapshot(tensors, clock, entry.job.mode, self.job, final, said)
            self._wanted = False
            self._condition.notify()

    def _ask_scheduler(self) -> None:
        """Find out why a server is silent: the job is over, the server is another one by now, or lost."""
        now = time.monotonic()
        rank, silence = min(((r, now - at) for r, at in self._heard.items()), key=lambda row: -row[1])
        try:
            answer = ask(self.address, FollowRequest(0), Followed, ANSWER, self._keys)
        except ConnectTimeout as error:
            if silence > LOST or all(now - at > LOST / 2 for at in self._heard.values()):
                raise PeerLost(
                    f"the job at {self.address} is gone: server {rank} is silent, and {error}{self._came()}"
                ) from None
            return
        if answer.job_id != self._entry.job_id:
            raise PeerLost(f"another job is at {self.address} by now; the one that was followed has ended")
        try:
            demand_going(answer, self.address)
        except JobEnded:
            if silence > LOST / 2:
                raise PeerLost(
                    f"the job at {self.address} has ended, and its last weights did not come{self._came()}"
                ) from None
            return
        entry = entry_of(answer)
        self._strays = self._strays and entry is None
        if entry is not None and self._servers.connect(entry.servers, entry.chunk_bytes):
            log.info("the job at %s has other servers than before", self.address)
            self._take_up(entry)
        elif silence > self._patience(replaced=entry is None):
            raise ServerLost(f"server {rank} of the job at {self.address} has been silent for {silence:.0f} s")

    def _came(self) -> str:
        """Return how much of the last weights is here, as the end of a sentence; nothing where none of it is."""
        if (last := self._last) is None:
            return ""
        here = len(last.chunks) - len(last.missing)
        return f"; of the last weights {here} of {len(last.chunks)} chunks have come"

    def _patience(self, *, replaced: bool) -> float:
        """Return how long a server may be silent that lives as the scheduler has it; or is being ``replaced``."""
        job = self._entry.job
        return max(LOST, job.start_timeout if replaced else 3 * job.heartbeat_timeout)

    def _take_up(self, entry: JobEntry) -> None:
        """Go on with other servers of the same job."""
        known = {peer.rank: peer.addresses for peer in self._entry.servers}
        self._entry = dataclasses.replace(entry, permit=self._entry.permit)
        now = time.monotonic()
        self._heard = {
            peer.rank: self._heard.get(peer.rank, now) if known.get(peer.rank) == peer.addresses else now
            for peer in entry.servers
        }
        self._reading = None if self._reading is None else self._begin(now)
        clock = self._reading.clock if self._reading is not None else -1
        for rank in self._heard:  # so that they know of this one, should they have the last weights soon
            self._servers.send(rank, self._mark(clock))


def follow(
    scheduler: str, *, every: float = 10.0, masters: bool = False, timeout: float = 60.0, keys: str | None = None
) -> ModelFollower:
    """Follow the model of a running job from outside, without being a member: nobody notices, and nobody waits.

    Iterate over the result, best in a ``with`` block: each snapshot is the model as it is then, a dict of NumPy arrays
    by name with ``clock``, at most one in ``every`` seconds; the last comes when the job has ended. In sync and
    federated jobs a snapshot is of exactly one clock; in async and ssp no chunk is torn. ``scheduler`` is the job's
    address. With ``masters``, what is trained in half precision comes as the servers' float32 masters. A job whose
    model is not there yet is waited for, ``timeout`` seconds at most. ``keys``: a folder of an operator's
    keys, as ``psctl keys new`` makes it, for a job that uses some.

    Raises UsageError, ConnectTimeout where nobody is, JobEnded; and, while it goes on, PeerLost when the job fails.
    """
    for name, value, least in (("every", every, 0.0), ("timeout", timeout, 0.0)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
            raise UsageError(f"{name} is {value!r}; it is a number of seconds, {least:g} or more")
    if not isinstance(scheduler, str):
        raise UsageError(f"a scheduler's address is a text such as tcp://10.0.0.1:7070, not {scheduler!r}")
    return ModelFollower(scheduler, every=every, masters=bool(masters), timeout=timeout, keys=keys)
