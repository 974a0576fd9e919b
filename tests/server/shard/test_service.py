"""Promises of the server process: one clear error, no hang, no file left behind, whatever the scheduler does."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq

from ps.config import JobConfig, ProcessConfig
from ps.errors import AddressInUse, ConfigError, ConnectTimeout, PeerLost, ServerLost, VersionMismatch
from ps.protocol.codec import MAGIC, VERSION, decode, encode
from ps.protocol.messages import (
    Attach,
    Attached,
    Error,
    Heartbeat,
    Hello,
    Init,
    InitChunk,
    Inquire,
    Leave,
    Message,
    Ok,
    Ping,
    Pong,
    Pull,
    Resume,
    RoundOrder,
    RoundStatus,
    Share,
    Shared,
    Upload,
    UploadState,
    View,
    Waiting,
    Welcome,
)
from ps.protocol.messages.data import NOT_YET
from ps.protocol.nuisance import BUDGET, MALFORMED
from ps.protocol.query import fetch_status
from ps.protocol.segment import PAGE
from ps.protocol.worker_memory import WorkerMemory
from ps.server.scheduler.service import serve as serve_scheduler
from ps.server.shard import alone, listening
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.service import serve
from support.identity import identify, welcome, with_token
from support.shm_desk import framed, told
from support.wire import BOUND, Peer, Service

HEAD = MAGIC + bytes((VERSION,))

NOWHERE = "tcp://127.0.0.1:1"


def process(tmp_path: Path, **fields: Any) -> ProcessConfig:
    return ProcessConfig(**{"scheduler": NOWHERE, "runtime_dir": str(tmp_path), "connect_timeout": 5.0, **fields})


def hello(role: str = "worker", nonce: int = 5) -> Hello:
    return Hello(0, nonce, role, -1, "host", 1, "", (), {})


class FakeScheduler:
    """A ROUTER that says what a test wants."""

    def __init__(self) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.address = f"tcp://127.0.0.1:{self.socket.bind_to_random_port('tcp://127.0.0.1')}"

    def origin(self) -> bytes:
        return self.hello()[0]

    def hello(self) -> tuple[bytes, Any]:
        """Return where a process is, and what it has said first."""
        assert self.socket.poll(BOUND * 1000)
        origin, header = self.socket.recv_multipart()
        return bytes(origin), decode(header)

    def say(self, origin: bytes, *frames: bytes) -> None:
        self.socket.send_multipart([origin, *frames])

    def __enter__(self) -> FakeScheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)


def test_a_scheduler_that_does_not_answer_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    error = Service(serve, process(tmp_path, connect_timeout=0.3)).result()
    assert isinstance(error, ConnectTimeout)
    assert f"no reply from the scheduler at {NOWHERE} after 0.3 s" in str(error)
    assert list(tmp_path.iterdir()) == []


def test_a_rank_that_an_engine_suggests_is_told_and_an_address_that_others_may_not_reach_is_doubted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "doubts", lambda address, scheduler: f"{scheduler} is elsewhere")
    for advertise, warned in ((None, 1), ("10.0.0.9", 0)):
        caplog.clear()
        with FakeScheduler() as scheduler:
            server = Service(
                serve, process(tmp_path, scheduler=scheduler.address, suggested_rank=3, advertise=advertise)
            )
            origin, said = scheduler.hello()
            assert (said.rank, said.suggested) == (-1, 3)
            doubt = f"workers are told to reach this server at {server.address}, but {scheduler.address} is elsewhere"
            assert caplog.messages.count(doubt) == warned
            scheduler.say(origin, encode(Error(said.request, "refused", "no")))
            server.result()


def test_a_port_in_use_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with FakeScheduler() as taken:
        port = int(taken.address.rpartition(":")[2])
        error = Service(serve, process(tmp_path, port=port)).result()
    assert isinstance(error, AddressInUse) and str(port) in str(error)
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    error = Service(serve, process(tmp_path, runtime_dir=str(tmp_path / "nowhere"))).result()
    assert isinstance(error, ConfigError) and "nowhere: No such file or directory" in str(error)


def test_no_scheduler_at_all_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    error = Service(serve, process(tmp_path, scheduler=None)).result()
    assert isinstance(error, ConfigError) and "--scheduler" in str(error)


def test_garbage_from_the_scheduler_is_dropped_and_another_version_is_an_error(tmp_path: Path) -> None:
    with FakeScheduler() as scheduler:
        server = Service(serve, process(tmp_path, scheduler=scheduler.address))
        origin = scheduler.origin()
        for junk in (b"", b"junk", HEAD + b"\xff\x90", HEAD + b"\x03\xc1"):
            scheduler.say(origin, junk)
        scheduler.say(origin, encode(welcome()), b"more", b"frames")
        with Peer(server.address) as peer:
            peer.say(Ping(3))
            assert peer.hear(Pong).role == "server"
        scheduler.say(origin, b"PS\x63\x03\x90")
        error = server.result()
    assert isinstance(error, VersionMismatch)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_the_loop_ends_the_process_with_the_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: GradientShard, view: View, now: float) -> list[Any]:
        raise RuntimeError("a bug")

    monkeypatch.setattr(GradientShard, "view", broken)
    with FakeScheduler() as scheduler:
        server = Service(serve, process(tmp_path, scheduler=scheduler.address))
        origin = scheduler.origin()
        scheduler.say(origin, encode(welcome()))
        scheduler.say(origin, encode(View(1, "waiting", "", "", {"mode": "sync"}, ())))
        error = server.result()
    assert isinstance(error, RuntimeError) and str(error) == "a bug"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("phase", "code", "reason", "kind"),
    [
        ("ended", "", "", int),
        ("failed", "server-lost", "server 1 died (no heartbeat)", ServerLost),
        ("failed", "no-worker", "no worker is left", PeerLost),
        ("failed", "timeout", "waited 120 s for all members: ...", ConnectTimeout),
        ("failed", "timeout", "some other words", ConnectTimeout),
        ("failed", "what a later version says", "waited for something", PeerLost),
    ],
)
def test_the_end_of_the_job_is_the_end_of_the_server(
    tmp_path: Path, phase: str, code: str, reason: str, kind: type
) -> None:
    with FakeScheduler() as scheduler:
        server = Service(serve, process(tmp_path, scheduler=scheduler.address))
        origin = scheduler.origin()
        scheduler.say(origin, encode(welcome()))
        scheduler.say(origin, encode(View(1, phase, code, reason, {}, ())))
        result = server.result()
    assert type(result) is kind and (result == 0 or str(result) == reason)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_hears_of_the_job_before_the_server_does_is_answered(tmp_path: Path) -> None:
    member = (7, "worker", 0, True, "host, pid 1", ())
    with FakeScheduler() as scheduler:
        server = Service(serve, process(tmp_path, scheduler=scheduler.address))
        origin = scheduler.origin()
        with Peer(server.address) as worker:
            worker.say(identify(7))
            worker.say(Attach(3, 7, 1))
            worker.say(Ping(0))
            worker.hear(Pong)  # so the server has read the Attach, and has not joined
            scheduler.say(origin, encode(welcome()))
            scheduler.say(origin, encode(View(1, "running", "", "", JobConfig().to_dict(), (member,))))
            assert worker.hear(Attached).request == 3
        scheduler.say(origin, encode(View(2, "ended", "", "", {}, ())))
        assert server.result() == 0


def test_nothing_that_comes_before_the_welcome_is_refused_and_what_was_not_kept_is_asked_for(tmp_path: Path) -> None:
    job = JobConfig(mode="federated").to_dict()
    with FakeScheduler() as scheduler:
        server = Service(serve, process(tmp_path, scheduler=scheduler.address))
        origin = scheduler.origin()
        with Peer(server.address) as client:
            client.say(identify(7))
            client.say(Upload(3, 7, 1, 0, 0, 0), b"a delta")
            client.say(with_token(Resume(4, 7, 1, 0), 0))
            client.say(Inquire(0, 7, (3, 4)))
            assert client.hear(Message) == Waiting(0, (), NOT_YET, ())
            scheduler.say(origin, encode(welcome()))
            scheduler.say(origin, encode(View(1, "running", "", "", job, ())))
            assert client.hear(Message) == UploadState(4, 1, ())
            client.say(Inquire(0, 7, (3,)))
            assert client.hear(Message) == Waiting(0, (3,), 0, ())
        scheduler.say(origin, encode(View(2, "ended", "", "", {}, ())))
        assert server.result() == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is shared through Unix sockets of Linux")
def test_memory_that_is_shared_before_the_welcome_is_answered_with_not_yet_and_taken_afterwards(tmp_path: Path) -> None:
    job, share = JobConfig().to_dict(), framed(encode(Share(4, 7, PAGE, False)))
    memory = WorkerMemory.create(PAGE)
    with FakeScheduler() as scheduler, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as worker:
        server = Service(serve, process(tmp_path, scheduler=scheduler.address))
        origin, hello = scheduler.hello()
        worker.settimeout(BOUND)
        worker.connect(next(a for a in hello.addresses if a.startswith("shm://")).removeprefix("shm://"))
        worker.sendall(framed(encode(identify(7))))
        socket.send_fds(worker, [share], [memory.segment.fd])
        assert told(worker) == Waiting(4, (), NOT_YET, ())
        scheduler.say(origin, encode(welcome()))
        scheduler.say(origin, encode(View(1, "running", "", "", job, ())))
        assert told(worker) == Shared(4, False), "it was kept, and is not asked for again"
        scheduler.say(origin, encode(View(2, "ended", "", "", {}, ())))
        assert server.result() == 0


def test_a_server_that_a_restarted_scheduler_does_not_know_ends_when_no_worker_is_left(tmp_path: Path) -> None:
    with FakeScheduler() as scheduler:
        server = Service(serve, process(tmp_path, scheduler=scheduler.address))
        origin = scheduler.origin()
        scheduler.say(origin, encode(welcome()))
        scheduler.say(origin, encode(Error(0, "unknown", "who are you?")))
        error = server.result()
    assert isinstance(error, PeerLost) and "restarted without its --state file" in str(error)


def test_a_server_whose_workers_and_scheduler_are_gone_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "PATIENCE", 1)
    with FakeScheduler() as scheduler:
        server = Service(serve, process(tmp_path, scheduler=scheduler.address))
        origin = scheduler.origin()
        scheduler.say(origin, encode(welcome()))
        scheduler.say(origin, encode(View(1, "running", "", "", {"start_timeout": 0.5, "idle_timeout": 0.5}, ())))
        error = server.result()
    assert isinstance(error, PeerLost) and "no worker is left" in str(error)


def test_a_server_whose_workers_were_killed_after_the_scheduler_ends_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "PATIENCE", 1)
    with FakeScheduler() as scheduler:
        server = Service(serve, process(tmp_path, scheduler=scheduler.address))
        origin = scheduler.origin()
        scheduler.say(origin, encode(welcome()))
        worker = (2, "worker", 0, True, "host, pid 7", ())
        scheduler.say(
            origin, encode(View(1, "running", "", "", {"start_timeout": 0.5, "idle_timeout": 0.5}, (worker,)))
        )
        error = server.result()
    assert isinstance(error, PeerLost) and "no worker is left" in str(error)


def test_garbage_at_a_live_server_is_counted_told_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "ps.server")
    scheduler = Service(serve_scheduler, {"workers": 2}, ProcessConfig())
    at = scheduler.address
    server = Service(serve, process(tmp_path, scheduler=at))
    there = server.address
    with Peer(at) as worker:
        worker.say(hello())
        member = worker.hear(Welcome).member
        for _ in range(12):
            with Peer(there) as stranger:  # one alone would be cut: tests/protocol/test_nuisance.py
                for number in range(BUDGET // MALFORMED * 3 // 4):
                    stranger.socket.send_multipart([os.urandom(number % 50), *[b"x"] * (number % 4)])
                    stranger.say(Pull(1, number, 0, 0))
                    if number % 100 == 0:
                        stranger.say(Ping(number))
                        stranger.hear(Pong, lambda pong, n=number: pong.request == n)
                stranger.say(Pull(7, 999_999, 0, 0))
                assert stranger.hear(Error, lambda error: error.request == 7).code == "stranger"
        worker.say(Leave(1, member, {}))
        worker.say(hello(nonce=6))
        first = worker.hear(Welcome).member
        worker.say(hello(nonce=7))
        second = worker.hear(Welcome).member
        worker.hear(View, lambda view: view.phase == "running")
        for gone in (second, first):
            worker.say(Leave(1, gone, {}))
        assert server.result() == 0 == scheduler.result()


def test_a_server_tells_of_an_order_that_cannot_be_meant_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "ps.server")
    job = JobConfig.from_dict({"mode": "federated", "workers": 1})
    with FakeScheduler() as scheduler:
        server = Service(serve, process(tmp_path, scheduler=scheduler.address))
        origin = scheduler.origin()
        scheduler.say(origin, encode(welcome()))
        scheduler.say(origin, encode(View(1, "running", "", "", job.to_dict(), ())))
        with Peer(server.address) as worker:
            worker.say(identify(2))
            worker.say(Init(1, 2, 1, job.chunk_bytes, (("w", "float32", (4,)),)))
            worker.hear(Ok)
            worker.say(InitChunk(2, 2, 0), bytes(16))
            worker.hear(Ok, lambda ok: ok.request == 2)
            order = RoundOrder(0, 3, 1, "measure", 0, (), 0, (), 1.0, 1.0)
            scheduler.say(origin, encode(order))
            scheduler.say(origin, encode(replace(order, phase="collect")))
            heard, deadline = [0], time.monotonic() + BOUND
            while heard[-1] != 3 and time.monotonic() < deadline:
                _, message = scheduler.hello()
                heard += [message.attempt] if isinstance(message, RoundStatus) else []
            worker.say(Ping(5))
            worker.hear(Pong)
        scheduler.say(origin, encode(View(2, "ended", "", "", {}, ())))
        assert server.result() == 0
    [line] = [record.message for record in caplog.records if "dropped an order" in record.message]
    assert line.endswith("distances are to be measured, and this job's aggregator looks at none")
    assert heard[-1] == 3


@pytest.mark.e2e
def test_sigterm_ends_a_server_in_order_and_all_are_told(tmp_path: Path) -> None:
    scheduler = Service(serve_scheduler, {"workers": 1}, ProcessConfig())
    at = scheduler.address
    command = [sys.executable, "-m", "ps.server", "--scheduler", at, "--runtime-dir", str(tmp_path)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        with Peer(at) as worker:
            worker.say(hello())
            member = worker.hear(Welcome).member
            worker.hear(View, lambda view: view.phase == "running")
            end = time.monotonic() + BOUND
            while "bytes" not in fetch_status(at)["servers"][0]:  # it has heard its welcome once it reports
                assert time.monotonic() < end
            assert list(tmp_path.iterdir())
            worker.say(Heartbeat(member, 0, {}))
            server.send_signal(signal.SIGTERM)
            assert server.wait(5) == 128 + signal.SIGTERM
            view = worker.hear(View, lambda view: view.phase == "failed")
            assert "server 0" in view.reason and "(left)" in view.reason
            assert list(tmp_path.iterdir()) == []
    finally:
        server.kill()
        server.communicate()
    assert isinstance(scheduler.result(), PeerLost)
