"""Promises of the watch: a process that is gone is dead at once where that is certain, else at the time-out."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from ps.config import ProcessConfig
from ps.protocol import pid
from ps.protocol.messages import Error, Heartbeat, HeartbeatAck, Hello, Identify, Leave, View, Welcome
from ps.server.scheduler.failure_detector import sign_interval
from ps.server.scheduler.service import Scheduler, serve
from ps.server.scheduler.waits import Waits
from support.desk import Desk
from support.wire import Peer, Service


def test_a_member_whose_process_and_connection_are_gone_is_dead_as_soon_as_its_heartbeat_is_overdue() -> None:
    desk = Desk(heartbeat_timeout=100.0)
    a, b = desk.fill()
    desk.wait(1, a, gone={a, b})
    assert not desk.state.deaths, "both were heard a second ago"
    desk.wait(2, a, gone={a})
    assert [(death["rank"], death["why"]) for death in desk.state.deaths] == [(0, "its process is gone")]


def test_a_process_that_ended_while_the_scheduler_was_away_is_dead_as_soon_as_the_others_could_be_heard() -> None:
    desk = Desk(heartbeat_timeout=20.0, mode="federated", clients_per_round=1)
    a, b = desk.fill()
    desk.restart(outage=50.0)  # others may need a hundred seconds to find it again
    desk.wait(1, a, b, gone={a})
    assert not desk.state.deaths
    desk.wait(5, a, b, gone={a})
    assert [(death["rank"], death["why"]) for death in desk.state.deaths] == [(0, "its process is gone")]
    assert desk.join(rank=0).rank == 0


def test_a_server_whose_process_is_gone_ends_the_job_at_once() -> None:
    desk = Desk(heartbeat_timeout=100.0)
    desk.fill()
    desk.wait(3, 1, gone={1})
    assert (desk.state.phase, desk.state.code) == ("failed", "server-lost")
    assert "server 0 (host, pid 1) died (its process is gone)" in desk.state.reason


@pytest.mark.parametrize(("connected", "process_is_gone"), [(True, True), (False, False)])
def test_a_connection_or_a_process_that_is_still_there_has_the_whole_time_out(
    connected: bool, process_is_gone: bool
) -> None:
    desk = Desk(heartbeat_timeout=10.0)
    a, _ = desk.fill()
    desk.wait(10, a, reach={a} if connected else (), gone={a} if process_is_gone else ())
    assert not desk.state.deaths


def test_a_goodbye_that_is_read_after_the_process_has_gone_counts() -> None:
    desk = Desk(heartbeat_timeout=100.0)
    a, b = desk.fill()
    desk.now += 1.5
    for member in (1, b):
        desk.say(Heartbeat(member, 0, {}))
    desk.state.tick(desk.now, lambda member: False, lambda record: record.member == a)
    desk.say(Leave(1, a, {}))
    desk.state.tick(desk.now + 0.1, lambda member: False, lambda record: record.member == a)
    assert desk.state.members[a].state == "left" and not desk.state.deaths


def test_the_kernel_is_not_asked_about_those_who_are_heard_nor_all_the_time() -> None:
    desk = Desk(heartbeat_timeout=100.0)
    a, _ = desk.fill()
    asked = []
    for tick in range(100):
        desk.state.tick(tick / 10, lambda member: False, lambda record: bool(asked.append(record.member)))
        for record in list(desk.state.members.values()):
            if record.member != a:
                desk.state.receive(Heartbeat(record.member, 0, {}), tick / 10)
    assert set(asked) == {a} and len(asked) <= 40


def test_a_worker_whose_process_lives_here_is_never_dead_and_the_wait_for_it_has_a_name() -> None:
    desk, waits = Desk(heartbeat_timeout=2.0), Waits()
    a, b = desk.fill()
    for _ in range(300):
        desk.wait(2, a, lives={a})
        waits.look(desk.state, desk.now)
    assert not desk.state.deaths
    [wait] = [wait for wait in waits.shown(desk.now) if wait["for"] == "worker 0"]
    assert "it is stopped" in wait["what"] and wait["seconds"] >= 598
    desk.say(Heartbeat(a, 0, {}))
    desk.wait(1)
    waits.look(desk.state, desk.now)
    assert not waits.shown(desk.now), "it was heard"
    desk.wait(5, a, b, lives={b})
    assert [death["rank"] for death in desk.state.deaths] == [0], "of the other one nothing is known"


def test_a_time_out_that_is_set_ends_the_wait_for_one_that_lives_and_says_nothing() -> None:
    desk = Desk(heartbeat_timeout=2.0, hang_timeout=60.0)
    a, b = desk.fill()
    desk.wait(59, a, b, lives={a}, reach={b})
    assert not desk.state.deaths
    desk.wait(3, a, b, lives={a}, reach={b})
    assert [death["rank"] for death in desk.state.deaths] == [0, 1]
    assert "it is stopped" in desk.state.deaths[0]["why"]


@pytest.mark.parametrize("job", [{"mode": "federated", "clients_per_round": 1}, {"mode": "pipeline", "spares": 1}])
def test_a_client_and_one_for_whom_a_spare_waits_have_the_time_out_alone(job: dict[str, Any]) -> None:
    desk = Desk(heartbeat_timeout=2.0, **job)
    a, _ = desk.fill()
    desk.wait(4, a, lives={a})
    assert [death["rank"] for death in desk.state.deaths] == [0]


def test_a_server_whose_process_lives_here_and_stands_still_has_the_time_out_alone() -> None:
    desk = Desk(heartbeat_timeout=2.0)
    desk.fill()
    desk.wait(4, 1, lives={1})
    assert desk.state.code == "server-lost"


@pytest.mark.parametrize("how", ["rank", "suggested"])
def test_who_comes_with_the_rank_of_one_that_cannot_be_reached_takes_its_place_long_before_the_time_out(
    how: str,
) -> None:
    desk = Desk(heartbeat_timeout=100.0)
    a, _ = desk.fill()
    desk.wait(3, a)
    [refused] = desk.hello(nonce=77, **{how: 0})
    assert isinstance(refused.message, Error) and refused.message.code == "rank-taken"
    desk.wait(1, a)
    assert [(death["rank"], death["why"]) for death in desk.state.deaths] == [
        (0, "no heartbeat for 4 s, and another process came with its rank")
    ]
    assert desk.hello(nonce=77, **{how: 0})[0].message.rank == 0
    [told] = desk.say(Heartbeat(a, 0, {}))
    assert isinstance(told.message, Error) and told.message.code == "evicted"


def test_who_comes_back_at_once_waits_for_its_rank_until_the_older_one_is_known_to_be_gone() -> None:
    desk = Desk(heartbeat_timeout=100.0)
    a, _ = desk.fill()
    desk.now += 0.5  # it was heard just now, and then it was killed
    [waits] = desk.hello(nonce=77, suggested=0)
    assert isinstance(waits.message, Error) and "not known yet whether it lives" in waits.message.text
    desk.wait(3, a, gone={a})
    assert desk.hello(nonce=77, suggested=0)[0].message.rank == 0
    desk.now += 0.5
    [waits] = desk.hello(nonce=78, suggested=1)
    assert isinstance(waits.message, Error)
    desk.wait(1)
    assert desk.hello(nonce=78, suggested=1)[0].message.rank == 2, "it was heard since: another process has that rank"


def test_who_comes_with_the_rank_of_one_that_lives_gets_it_not() -> None:
    desk = Desk(heartbeat_timeout=100.0)
    a, b = desk.fill()
    for rank, member, more in ((0, a, {"reach": {a}}), (1, b, {"lives": {b}})):
        desk.wait(3, member, **more)
        [refused] = desk.hello(nonce=77, rank=rank)
        assert isinstance(refused.message, Error)
        desk.wait(1, member, **more)
        desk.say(Heartbeat(member, 0, {}))
    assert not desk.state.deaths
    assert desk.join(suggested=1).rank == 2
    assert "which is alive" in desk.refused(rank=0).text


# The process, with real sockets and real processes of this host

LINUX = pytest.mark.skipif(not pid.realm(), reason="/proc says nothing about processes here")
TIMEOUT = 8.0
MARK = "from ps.protocol import pid; print(pid.mark(), flush=True); input()"


class Mortal:
    """A process of this host, for which the test speaks."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", MARK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.mark = self.process.stdout.readline().strip()

    def hello(self, nonce: int, mark: str | None = None) -> Hello:
        return Hello(0, nonce, "worker", -1, "host", self.process.pid, self.mark if mark is None else mark, (), {})

    def kill(self) -> None:
        self.process.kill()  # and nobody waits for it: it is a zombie


@pytest.fixture
def mortal() -> Iterator[Mortal]:
    made = Mortal()
    yield made
    made.kill()
    made.process.communicate()


def death_after(mortal: Mortal, mark: str | None, *, kill: bool, hang_up: bool) -> float:
    """Return after how many seconds a worker is dead whose process and connection may have ended; infinite: never."""
    scheduler = Service(serve, {"workers": 1, "heartbeat_timeout": TIMEOUT, "idle_timeout": 0.1}, ProcessConfig())
    address = scheduler.address
    with Peer(address) as witness, Peer(address) as peer:
        witness.say(Hello(0, 1, "server", -1, "host", 1, "", (), {}))
        server = witness.hear(Welcome).member
        peer.say(mortal.hello(2, mark))
        welcome = peer.hear(Welcome)
        member = welcome.member
        epoch = witness.hear(View, lambda view: any(row[0] == member for row in view.members)).epoch
        if kill:
            mortal.kill()
        if hang_up:
            peer.socket.close(linger=0)
        began, found = time.monotonic(), math.inf
        while time.monotonic() - began < TIMEOUT / 2:
            witness.say(Heartbeat(server, epoch, {}))
            witness.hear(HeartbeatAck)
            if witness.socket.poll(200):
                witness.hear(View, lambda view: all(row[0] != member for row in view.members))
                found = time.monotonic() - began
                break
        witness.say(Identify(7, welcome.job_id, member, welcome.rank, welcome.number, welcome.proof))
        witness.say(Leave(8, member, {}))
        witness.hear(View, lambda view: view.phase in ("ended", "failed"))
        witness.say(Leave(9, server, {}))
        scheduler.result()
        return found


@LINUX
def test_the_death_of_a_process_of_this_host_is_noticed_long_before_the_time_out(mortal: Mortal) -> None:
    assert death_after(mortal, None, kill=True, hang_up=True) < TIMEOUT / 2


@LINUX
@pytest.mark.parametrize(
    ("elsewhere", "kill", "hang_up"),
    [(False, False, True), (False, True, False), (True, True, True)],
    ids=["the link was cut", "the connection lives", "it may be another host's"],
)
def test_what_is_not_certain_takes_the_time_out(mortal: Mortal, elsewhere: bool, kill: bool, hang_up: bool) -> None:
    mark = f"other {mortal.mark}" if elsewhere else None
    assert death_after(mortal, mark, kill=kill, hang_up=hang_up) == math.inf


@pytest.mark.parametrize(
    ("timeout", "workers", "interval"),
    [(10.0, 4, 1.0), (10.0, 500, 1.0), (2.0, 4, 0.4), (10.0, 1000, 2.0), (2.0, 3000, 18.0), (10.0, 10_000, 60.0)],
)
def test_signs_of_life_of_thousands_come_more_seldom(timeout: float, workers: int, interval: float) -> None:
    assert sign_interval(timeout, workers) == pytest.approx(interval)
    assert sign_interval(timeout, workers + 1) >= sign_interval(timeout, workers)


def test_a_scheduler_whose_job_is_to_have_thousands_asks_for_their_signs_of_life_so_seldom() -> None:
    scheduler = Scheduler({"mode": "federated", "workers": 2000}, ProcessConfig())
    try:
        assert scheduler._router.getsockopt(zmq.HEARTBEAT_IVL) == 8000
    finally:
        scheduler._close()
