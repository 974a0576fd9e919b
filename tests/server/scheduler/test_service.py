"""Promises of the scheduler process: its file is enough to go on, an ended job is not, strangers cost nothing."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ps.config import ProcessConfig
from ps.errors import AddressInUse, ConfigError, PeerLost
from ps.protocol.messages import Error, Heartbeat, HeartbeatAck, Hello, Identify, Leave, Ok, Ping, Pong, View, Welcome
from ps.protocol.query import fetch_status
from ps.server.scheduler import service, status_desk
from ps.server.scheduler.database import Database
from ps.server.scheduler.service import serve
from support import zmtp
from support.wire import BOUND, Peer, Service


def hello(role: str, nonce: int) -> Hello:
    return Hello(0, nonce, role, -1, "host", nonce, "", (), {})


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


class Processes:
    """Scheduler processes with one state file; none outlives the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, port: int = 0) -> tuple[subprocess.Popen[bytes], str]:
        """Start one and return it with its address, once it listens."""
        command = [sys.executable, "-m", "ps.cli", "scheduler", "--port", str(port)]
        state = str(self.directory / "state.db")
        process = subprocess.Popen([*command, "--state", state], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(rb"scheduler at (tcp://[^\s;]+)", line):
                return process, found[1].decode()
        raise AssertionError(f"the scheduler ended with {process.wait(BOUND)}")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def test_a_port_in_use_is_named() -> None:
    first = Service(serve, {}, ProcessConfig())
    address = first.address
    error = Service(serve, {}, ProcessConfig(port=port_of(address))).result()
    assert isinstance(error, AddressInUse) and str(port_of(address)) in str(error)
    with Peer(address) as peer:
        finish(peer)
    assert first.result() == 0


def finish(peer: Peer) -> None:
    """Take a job of one server and one worker to its end."""
    members = []
    for nonce, role in enumerate(("server", "worker"), 100):
        peer.say(hello(role, nonce))
        members.append(peer.hear(Welcome).member)
    peer.hear(View, lambda view: view.phase == "running")
    for member in reversed(members):
        peer.say(Leave(9, member, {}))
        peer.hear(Ok)


def test_what_is_told_in_the_end_is_how_it_ended_even_if_somebody_has_just_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status_desk, "FRESH", 3600.0)
    monkeypatch.setattr(status_desk, "LONGEST", 3600.0)
    told: list[dict[str, Any]] = []
    scheduler = Service(partial(serve, tell=told.append), {}, ProcessConfig())
    address = scheduler.address
    assert not fetch_status(address, BOUND)["workers"]
    with Peer(address) as peer:
        finish(peer)
    assert scheduler.result() == 0
    assert (told[-1]["phase"], [row["state"] for row in told[-1]["workers"]]) == ("ended", ["left"])


@pytest.mark.e2e
def test_a_killed_scheduler_goes_on_where_it_was_and_an_ended_job_does_not_come_back(processes: Processes) -> None:
    first, address = processes.start()
    with Peer(address) as peer:
        peer.say(hello("server", 1))
        server = peer.hear(Welcome)
        peer.say(hello("worker", 2))
        worker = peer.hear(Welcome)
        epoch = peer.hear(View, lambda view: view.phase == "running").epoch
        first.send_signal(signal.SIGKILL)
        assert first.wait(BOUND) == -signal.SIGKILL
        second, _ = processes.start(port_of(address))
        for who in (server, worker):
            member = who.member
            peer.say(Heartbeat(member, epoch, {}))
            assert peer.hear(Error).code == "stranger", "it is another connection"
            peer.say(Identify(0, who.job_id, member, who.rank, who.number, who.proof))
            assert peer.hear(Welcome).proof == who.proof
            peer.say(Heartbeat(member, epoch, {}))
            assert peer.hear(HeartbeatAck).epoch == epoch
        peer.say(hello("worker", 2))
        assert peer.hear(Welcome).member == worker.member
        peer.say(Leave(5, worker.member, {}))
        assert peer.hear(View, lambda view: view.epoch > epoch).phase == "ended"
        peer.say(Leave(6, server.member, {}))
        assert second.wait(BOUND) == 0
    third, _ = processes.start(port_of(address))
    assert third.wait(BOUND) == 0, "the job in its file has ended, and there is nobody to tell"


@pytest.mark.parametrize("state", ["{}", '{"phase": "running"}', '{"phase": "running", "explicit": 3}'])
def test_a_state_with_holes_is_refused_by_name(tmp_path: Path, state: str) -> None:
    path = tmp_path / "state.db"
    database = Database(str(path))
    assert database.save(json.loads(state))
    database.close()
    error = Service(serve, {}, ProcessConfig(state=str(path))).result()
    assert isinstance(error, ConfigError) and f"{path} does not hold a scheduler's state" in str(error)
    Database(str(path)).close()  # and the file is free again


def test_strangers_cost_nothing_and_are_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ps.protocol.nuisance.BUDGET", 1 << 40)  # or one connection could not say so much
    made: list[Any] = []
    original = service.Scheduler.__init__

    def spy(self: Any, *args: Any, **named: Any) -> None:
        original(self, *args, **named)
        made.append(self)

    monkeypatch.setattr(service.Scheduler, "__init__", spy)
    scheduler = Service(serve, {}, ProcessConfig())
    address = scheduler.address
    dice = random.Random(1)
    with Peer(address) as peer:
        for number in range(2000):
            peer.say(Heartbeat(number + 50, 0, {}))
            peer.socket.send_multipart([dice.randbytes(dice.randrange(40)) for _ in range(dice.randrange(1, 4))])
            if number % 100 == 0:
                peer.say(Heartbeat(number + 50, 0, {}))
                assert peer.hear(Error, lambda error: error.code == "stranger")
        peer.say(Ping(7))
        peer.hear(Pong)  # all before it has been read
        status = fetch_status(address, BOUND)
        assert status["phase"] == "waiting" and not status["workers"]
        assert sum(status["scheduler"]["rejected"].values()) >= 2000
        assert len(made[0]._bindings) == 0
        finish(peer)
    assert scheduler.result() == 0


def test_a_failed_job_ends_the_scheduler_with_the_reason() -> None:
    scheduler = Service(serve, {"start_timeout": 0.2}, ProcessConfig())
    with Peer(scheduler.address) as peer:
        peer.say(hello("worker", 1))
        member = peer.hear(Welcome).member
        assert peer.hear(View, lambda view: view.phase == "failed").reason.startswith("waited 0.2 s")
        peer.say(Leave(1, member, {}))
        error = scheduler.result()
    assert isinstance(error, PeerLost) and "the job failed: waited 0.2 s for all members" in str(error)


def test_members_that_are_there_but_say_no_goodbye_hold_a_job_that_is_over_only_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "LAST", 0.2)
    scheduler = Service(serve, {"heartbeat_timeout": 2.0}, ProcessConfig())
    began = time.monotonic()
    with Peer(scheduler.address) as peer:
        peer.say(hello("server", 1))
        peer.hear(Welcome)
        peer.say(hello("worker", 2))
        peer.say(Leave(1, peer.hear(Welcome).member, {}))
        assert scheduler.result() == 0
        assert time.monotonic() - began >= 4.0, "twice the heartbeat time-out"


def test_a_frame_that_is_longer_than_any_word_to_a_scheduler_ends_its_connection() -> None:
    scheduler = Service(serve, {"workers": 1}, ProcessConfig())
    address = scheduler.address
    with zmtp.connect(address) as sock:
        sock.sendall(zmtp.frame(b"x" * 100, declared=service.LONGEST + 1))
        assert zmtp.closed(sock)
    with Peer(address) as peer:
        peer.say(Hello(0, 1, "worker", -1, "h", 1, "", (), {"servers": 1}))
        seat = peer.hear(Welcome).member
        peer.say(Hello(0, 2, "server", 0, "h", 1, "", (), {}))
        peer.hear(Welcome)
        peer.say(Leave(1, seat, {}))
        peer.hear(Ok)
    assert scheduler.result() == 0


def test_a_scheduler_beside_which_all_were_started_gives_up_even_if_nobody_comes() -> None:
    began = time.monotonic()
    process = ProcessConfig(gather=True)
    with pytest.raises(PeerLost, match=r"waited 0.3 s for all members: 0 of 1 servers and 0 of 2 workers joined"):
        serve({"servers": 1, "workers": 2, "start_timeout": 0.3}, process)
    assert time.monotonic() - began < 20
