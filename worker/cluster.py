"""ClusterStore: the parameters on servers. Joins the job, exchanges chunks with all servers, leaves."""

from __future__ import annotations

import atexit
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any

import zmq

from ps.config.job import JobConfig
from ps.config.process import ProcessConfig
from ps.errors import PeerLost, PSError, StateError
from ps.optim import clip_scale
from ps.protocol.layout import Chunk, Layout
from ps.protocol.membership import Membership, Peer, peers, scheduler_address
from ps.protocol.messages import (
    Attach,
    BarrierEnter,
    BarrierLeave,
    Init,
    InitChunk,
    InitDone,
    InitGrant,
    InitRequest,
    Leave,
    Message,
    Ok,
    Pull,
    Push,
    Retire,
    Scale,
    SetLr,
    Skip,
    Start,
    View,
)
from ps.protocol.transport import Socket, choose
from ps.worker.exchange import Batch, Exchange
from ps.worker.gradients import Gradients
from ps.worker.link import SchedulerLink
from ps.worker.store import Handle, Traffic
from ps.xp import HostArray

log = logging.getLogger("ps.worker")


class ClusterStore:
    """A worker's place in a job that runs on servers."""

    def __init__(self, process: ProcessConfig, script: Mapping[str, Any]) -> None:
        """Join the job and wait until it is complete. Raises ConnectTimeout, Refused or ConfigError."""
        self.clock = 0
        self.traffic = Traffic()
        self.report: dict[str, Any] = {}
        """What the status shows of this worker; set by whoever counts."""
        self._exchange: Exchange | None = None
        self._pushed = Batch()
        self._closed = False
        self._context: zmq.Context[Socket] = zmq.Context()
        membership = Membership(
            "worker",
            scheduler_address(process),
            rank=process.rank,
            addresses=(),
            script=script,
            connect_timeout=process.connect_timeout,
            now=time.monotonic(),
        )
        self._link = SchedulerLink(self._context, membership, self._status)
        try:
            view = self._link.wait_until(lambda view: view.phase == "running", self._absent)
        except BaseException:
            self._abandon()
            raise
        self.job = JobConfig.from_dict(view.job)
        self.rank = self._link.rank
        atexit.register(self.close, "the script ended without closing")

    @staticmethod
    def _absent(view: View | None, seconds: float) -> str:
        if view is None:
            return f"waiting {seconds:.0f} s for the scheduler"
        here = [peer.role for peer in peers(view)]
        servers, workers = here.count("server"), here.count("worker")
        wanted = f" of {view.job['servers']} servers and {{}} of {view.job['workers']} workers" if view.job else ""
        return f"waiting {seconds:.0f} s for members: {servers}{wanted.format(workers)} are here"

    def _status(self) -> dict[str, Any]:
        waiting = self._exchange.waiting if self._exchange else None
        ranks, since = waiting or ((), time.monotonic())
        waited = {"waiting_for": list(ranks), "waiting_s": round(time.monotonic() - since, 1)}
        return {**self.report, "clock": self.clock, **waited}

    @property
    def num_workers(self) -> int:
        return len(self._peers("worker"))

    def _peers(self, role: str) -> list[Peer]:
        view = self._link.view
        assert view is not None
        return sorted((peer for peer in peers(view) if peer.role == role), key=lambda peer: peer.rank)

    def _check(self) -> None:
        """Raise when this worker is out of the job, or waits for ever because nobody can say who is gone."""
        self._link.check()
        waiting = self._exchange.waiting if self._exchange else None
        limit = self.job.start_timeout
        if waiting and self._link.silence > limit and time.monotonic() - waiting[1] > limit:
            who = ", ".join(f"worker {rank}" for rank in waiting[0])
            raise PeerLost(f"waited {limit:g} s for {who}, and the scheduler, which would know, is silent as well")

    # The model

    def init(self, layout: Layout, values: HostArray) -> HostArray:
        self._layout = layout
        self._buffer = values
        self._chunks = layout.chunks(self.job.servers, self.job.chunk_size)
        grant = self._link.request(
            lambda request, member: InitRequest(request, member, layout.pack()), InitGrant, "the first worker's init"
        )
        servers = [(str(peer), choose(peer.addresses, self.job.transport, str(peer))) for peer in self._peers("server")]
        log.info("rank %d uses %s", self.rank, ", ".join(address for _, address in servers))
        self._exchange = Exchange(
            self._context,
            self._link.member,
            servers,
            window=self.job.window,
            silence_limit=max(3 * self.job.heartbeat_timeout, 10.0),
            check=self._check,
            traffic=self.traffic,
        )
        if grant.seed:
            self._attach()
            self._seed(self._exchange, values)
            self._link.request(InitDone, Ok, "the scheduler to note the first values")
            self._start(0)
        else:
            self._enter()
        return self._buffer

    def _seed(self, exchange: Exchange, values: HostArray) -> None:
        settings = (self.job.servers, self.job.chunk_size, self._layout.pack())
        exchange.ask_all(lambda request: Init(request, self._link.member, *settings))
        batch = Batch()
        for chunk in self._chunks:
            region = _region(chunk)
            exchange.submit(
                batch,
                chunk.server,
                lambda request, index=chunk.index: InitChunk(request, self._link.member, index),  # type: ignore[misc]
                lambda region=region: values[slice(*region)],  # type: ignore[misc]
                region,
            )
            exchange.versions[chunk.index] = 0
        exchange.wait(batch)

    def _attach(self) -> int:
        """Present ourselves to all servers; return the first clock in which all can take us in."""
        view = self._link.view
        assert view is not None
        return self._ready().ask_all(lambda request: Attach(request, self._link.member, view.epoch)).clock

    def _start(self, clock: int) -> None:
        self._ready().ask_all(lambda request: Start(request, self._link.member, clock))
        self.clock = clock

    def _enter(self) -> None:
        """Come in, or back, at the next clock: agree on it with all servers and get its first weights."""
        self._start(self._attach())
        self.wait(self.pull(self._buffer))

    # Gradients up, weights down

    def push(self, gradients: Gradients | None, examples: float) -> Handle:
        exchange = self._ready()
        self.wait(self._pushed)
        if self.job.clip_norm is not None and self.job.mode == "sync":
            batch = Batch(into=self._buffer)
            self._two_phase(exchange, batch, gradients, examples)
            self.clock += 1
            return batch
        batch = self._submit_push(exchange, gradients, examples, pull=False)
        exchange.flush()
        self.clock += 1
        return batch

    def pull(self, into: HostArray) -> Handle:
        exchange = self._ready()
        batch = Batch(into=into)
        for chunk in self._chunks:
            exchange.submit(batch, chunk.server, self._pull_of(chunk), None, _region(chunk))
        return batch

    def push_pull(self, gradients: Gradients | None, examples: float) -> Handle:
        exchange = self._ready()
        self.wait(self._pushed)
        if self.job.clip_norm is not None and self.job.mode == "sync":
            batch = Batch(into=self._buffer)
            self._two_phase(exchange, batch, gradients, examples)
        else:
            batch = self._submit_push(exchange, gradients, examples, pull=True)
            exchange.wait(batch)
        self.clock += 1
        if batch.late:
            self._enter()
        return batch

    def wait(self, handle: Handle) -> None:
        if not isinstance(handle, Batch):
            raise StateError(f"{handle!r} is not a handle of this store")
        self._ready().wait(handle)
        if handle.late:
            handle.late = False
            self._enter()

    def _submit_push(self, exchange: Exchange, gradients: Gradients | None, examples: float, pull: bool) -> Batch:
        """Queue a push of every chunk. Without pull the gradients are copied, since nobody waits for the answers."""
        batch = Batch(into=self._buffer if pull else None)
        member, clock, scale = self._link.member, self.clock, self._own_scale(gradients)
        for chunk in self._chunks:
            index, version = chunk.index, exchange.versions.get(chunk.index, 0)
            if gradients is None:
                exchange.submit(
                    batch,
                    chunk.server,
                    lambda request, index=index: Skip(request, member, index, clock, pull),  # type: ignore[misc]
                    None,
                    _region(chunk),
                )
                continue
            read = gradients.chunk if pull else gradients.staged
            exchange.submit(
                batch,
                chunk.server,
                lambda request, index=index, version=version: Push(  # type: ignore[misc]
                    request, member, index, clock, version, examples, scale, pull
                ),
                lambda chunk=chunk, read=read: read(chunk),  # type: ignore[misc]
                _region(chunk),
            )
        if not pull:
            self._pushed = batch
        return batch

    def _own_scale(self, gradients: Gradients | None) -> float:
        """Async and SSP apply each worker's gradient alone, so its norm is known here, without a second phase."""
        if gradients is None or self.job.clip_norm is None or self.job.mode == "sync":
            return 1.0
        return clip_scale(gradients.norm_squared(), self.job.clip_norm)

    def _two_phase(self, exchange: Exchange, batch: Batch, gradients: Gradients | None, examples: float) -> None:
        """Clip the aggregated gradient by its global norm: push, add up all chunks' squares, then scale."""
        first = self._submit_push(exchange, gradients, examples, pull=False)
        exchange.wait(first)
        assert self.job.clip_norm is not None
        total = sum(first.squares[index] for index in sorted(first.squares))
        scale = clip_scale(total, self.job.clip_norm)
        member, clock = self._link.member, self.clock
        for chunk in self._chunks:
            exchange.submit(
                batch,
                chunk.server,
                lambda request, index=chunk.index: Scale(request, member, index, clock, scale),  # type: ignore[misc]
                None,
                _region(chunk),
            )
        exchange.wait(batch)

    def _pull_of(self, chunk: Chunk) -> Any:
        member, clock = self._link.member, self.clock
        return lambda request: Pull(request, member, chunk.index, clock)

    # Together

    def barrier(self) -> None:
        """Meet all live workers.

        While a worker waits here the others may still have steps to do: the servers are told not to count on it.
        Then all take part again from the highest clock among them, and only go on when every server knows that
        of every worker.
        """
        if self._exchange is not None:
            self.wait(self._pushed)
            self._ready().ask_all(lambda request: Retire(request, self._link.member))
        clock = self._meet()
        if self._exchange is None:
            return
        behind = clock != self.clock
        self._start(clock)
        self._meet()
        if behind:
            if self.job.backup_workers:
                self._enter()
            else:
                self.wait(self.pull(self._buffer))

    def _meet(self) -> int:
        answer = self._link.request(
            lambda request, member: BarrierEnter(request, member, self.clock),
            BarrierLeave,
            "all workers at the barrier",
        )
        return answer.clock

    def set_lr(self, lr: float) -> None:
        clock = self.clock
        self._ready().ask_all(lambda request: SetLr(request, self._link.member, clock, lr))

    # The end

    def close(self, failure: str = "") -> None:
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        with contextlib.suppress(PSError):
            if self._exchange is not None and not failure:
                self._exchange.wait(self._pushed)
        with contextlib.suppress(PSError, zmq.ZMQError):
            if self._exchange is not None:
                self._farewell(self._exchange)
        report = self._status()
        if failure:
            report["failure"] = failure[:200]
        self._abandon(Leave(0, self._link.member, report))

    def _farewell(self, exchange: Exchange) -> None:
        """Tell the servers ourselves, in case the scheduler cannot: nobody is to wait for us."""
        self._link.check()
        batch = Batch()
        for server in exchange.servers:
            exchange.submit(batch, server, lambda request: Retire(request, self._link.member))
        exchange.wait_at_most(batch, 2.0)

    def _abandon(self, last: Message | None = None) -> None:
        self._link.close(last)
        if self._exchange is not None:
            self._exchange.close()
        self._context.destroy(linger=0)

    def _ready(self) -> Exchange:
        if self._closed:
            raise StateError("this connection is closed")
        if self._exchange is None:
            raise StateError("no parameters yet: call kv.init(params) first")
        return self._exchange


def _region(chunk: Chunk) -> tuple[int, int]:
    return chunk.offset, chunk.offset + chunk.nbytes
