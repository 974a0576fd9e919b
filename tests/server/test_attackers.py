"""Promises to members: nobody but they themselves can say anything for them, whatever it is.

Every message that names a member is tried, from the declarations: one that is added later is covered by itself. Said by
a stranger, by another member, by a process of another job, and by one that the member was before.
"""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path

import pytest

from ps.config import ProcessConfig
from ps.protocol.codec import encode
from ps.protocol.messages import (
    TYPES,
    Attach,
    Error,
    Hello,
    Identify,
    InitDone,
    InitRequest,
    Leave,
    Message,
    Ok,
    Ping,
    Poll,
    Pong,
    RoundOrder,
    Share,
    Shared,
    View,
    Waiting,
    Welcome,
)
from ps.protocol.segment import PAGE
from ps.protocol.worker_memory import WorkerMemory
from ps.server.job_key import JobKey
from ps.server.scheduler import service
from ps.server.scheduler.service import serve as serve_scheduler
from ps.server.scheduler.state import SchedulerState
from ps.server.send import Line
from ps.server.shard.callers import Callers
from ps.server.shard.service import serve as serve_server
from support import zmtp
from support.box import Box
from support.desk import MODEL
from support.identity import KEY, OTHER, identify
from support.schema import extreme, fields_of
from support.shm_desk import framed, told
from support.wire import Peer, Service

ACTING = [cls for cls in TYPES.values() if "member" in fields_of(cls) and cls is not Identify]
"""Every message that names who it is from."""
ROUNDS = 20
"""Of each, with other values each time."""


class Job:
    """A scheduler's process without a socket, with a server and two workers."""

    def __init__(self, mode: str) -> None:
        self.scheduler = service.Scheduler({"mode": mode, "servers": 1, "workers": 2}, ProcessConfig())
        self.scheduler._router.close()
        self.scheduler._context.term()
        self.box = self.scheduler._inbox = self.scheduler._router = Box()  # type: ignore[assignment]
        self.seats = []
        for number, role in enumerate(("server", "worker", "worker")):
            hello = Hello(0, 1 + number, role, -1, "host", 1, "", (), {})  # type: ignore[arg-type]
            self.seats.append(next(m for m in self.say(b"%d" % number, hello) if isinstance(m, Welcome)))
        self.say(b"1", InitRequest(1, self.seats[1].member, MODEL), InitDone(2, self.seats[1].member))

    def say(self, origin: bytes, *messages: Message) -> list[Message]:
        """Let it hear this on one connection; return what it says there."""
        self.box.waiting += [(origin, message, b"x" * 8 if message.payload else None) for message in messages]
        self.box.sent.clear()
        while self.box.waiting:
            self.scheduler._turn()
        return [message for to, message in self.box.sent if to == origin]

    def picture(self) -> str:
        """Return all that it knows."""
        state = self.scheduler._state
        seen = [(member.member, member.seen, member.report) for member in state.members.values()]
        return json.dumps([state.dump(), state.rounds.dump() if state.rounds else None, seen])


def told_who(seat: Welcome) -> Identify:
    return Identify(0, seat.job_id, seat.member, seat.rank, seat.number, seat.proof)


def attackers(job: Job, victim: Welcome) -> dict[str, bytes]:
    """Return the connections of those who may not speak for a member, by who they are."""
    former = b"%d" % job.seats.index(victim)
    assert isinstance(job.say(b"anew", told_who(victim))[0], Welcome), "its own new connection"
    [refusal] = job.say(b"old job", identify(victim.member, victim.rank, victim.number, OTHER))
    assert isinstance(refusal, Error) and refusal.code == "another-job"
    [refusal] = job.say(
        b"guess", identify(victim.member, victim.rank, victim.number, type(KEY)(victim.job_id, "a guess"))
    )
    assert isinstance(refusal, Error) and refusal.code == "stranger"
    other = b"%d" % next(n for n, seat in enumerate(job.seats) if seat is not victim)
    return {"stranger": b"x", "old job": b"old job", "guess": b"guess", "former connection": former, "member": other}


@pytest.mark.parametrize("mode", ["sync", "async", "ssp", "federated"])
@pytest.mark.parametrize("of", [0, 1], ids=["a server", "a worker"])
def test_a_scheduler_takes_nothing_for_a_member_from_anybody_else(mode: str, of: int) -> None:
    job, chance = Job(mode), random.Random(7)
    victim = job.seats[of]
    enemies = attackers(job, victim)
    before = job.picture()
    for cls in ACTING:
        for name, origin in enemies.items():
            for _ in range(ROUNDS):
                message = extreme(cls, chance, member=victim.member)
                answers = job.say(origin, message)
                assert [m.code for m in answers if isinstance(m, Error)] == ["stranger"], f"{message!r} of a {name}"
                assert {type(m) for m in answers} <= {Error, RoundOrder}, "a server is reminded of its orders"
    assert job.picture() == before
    [answer] = job.say(b"anew", Leave(3, victim.member, {}))[:1]
    assert isinstance(answer, Ok), "and the member itself goes on"


def test_a_dead_members_process_cannot_come_back_as_what_it_was() -> None:
    job = Job("federated")
    dead = job.seats[2]
    job.scheduler._state.members[dead.member].seen = -1e9
    job.box.reach = lambda origin, message: False  # type: ignore[method-assign]
    job.say(b"1", Poll(5, job.seats[1].member, -1, {}))
    for origin in (b"2", b"anew"):
        [answer] = job.say(origin, told_who(dead))
        assert isinstance(answer, Error) and answer.code == "evicted"
    [answer] = job.say(b"anew", Poll(5, dead.member, -1, {}))
    assert isinstance(answer, Error) and answer.code == "stranger"


def test_who_belongs_to_another_job_does_not_join_this_one_unasked() -> None:
    job = Job("federated")
    before = job.picture()
    [answer] = job.say(b"x", Hello(0, 99, "worker", -1, "h", 1, "", (), {}, job_id=OTHER.job_id))
    assert isinstance(answer, Error) and answer.code == "another-job" and job.picture() == before


def test_no_client_changes_what_the_operator_has_set() -> None:
    explicit = {"mode": "federated", "workers": 3, "rounds": 9, "max_delta_norm": 50.0, "seed": 5}
    asked = {"workers": 1, "rounds": 1, "max_delta_norm": 1e9, "seed": 7, "local_steps": 4}
    state = SchedulerState(explicit, 0.0)
    state.receive(Hello(0, 1, "worker", -1, "h", 1, "", (), asked), 0.0)
    assert state.job is not None
    job = state.job.to_dict()
    assert {name: job[name] for name in explicit} == explicit and job["local_steps"] == 4, "that was left to it"


# A server


def codes(errors: list[Error | None]) -> list[str]:
    return [error.code for error in errors if error is not None]


def test_a_server_takes_nothing_for_a_member_from_anybody_else() -> None:
    callers, chance = Callers(), random.Random(7)
    callers.join(KEY)
    line = Line()
    assert callers.identify(b"former", identify(7)) is None and callers.identify(line, identify(7)) is None
    assert callers.identify(b"other", identify(8, rank=1, number=2)) is None
    assert codes([callers.identify(b"old", identify(7, key=OTHER))]) == ["another-job"]
    assert codes([callers.identify(b"guess", identify(7, key=JobKey(KEY.job_id, "a guess")))]) == ["stranger"]
    for cls in ACTING:
        message = extreme(cls, chance, member=7)
        assert callers.refusal(line, message) is None, "the member itself"
        for origin in (b"x", b"former", b"other", b"old", b"guess", Line()):
            assert codes([callers.refusal(origin, message)]) == ["stranger"], f"{message!r} of {origin!r}"


def test_of_two_lives_of_a_rank_the_later_one_is_believed_whoever_comes_first() -> None:
    callers = Callers()
    callers.join(KEY)
    old, new = identify(7, rank=2, number=3), identify(9, rank=2, number=5)
    assert callers.identify(b"old", old) is None
    assert callers.refusal(b"old", Attach(1, 7, 1)) is None
    assert callers.identify(b"new", new) is None
    assert codes([callers.refusal(b"old", Attach(1, 7, 1))]) == ["stranger"]
    assert codes([callers.identify(b"old", old)]) == ["evicted"]
    assert callers.refusal(b"new", Attach(1, 9, 1)) is None


def test_who_says_too_early_who_it_is_is_believed_or_not_once_the_server_has_joined() -> None:
    callers = Callers()
    assert callers.identify(b"a", identify(7)) is None and callers.identify(b"b", identify(8, key=OTHER)) is None
    assert [(origin, error.code) for origin, error in callers.join(KEY)] == [(b"b", "another-job")]
    assert callers.refusal(b"a", Attach(1, 7, 1)) is None and callers.refusal(b"b", Attach(1, 8, 1)) is not None


# Real sockets


def test_a_routing_id_that_looks_like_a_workers_unix_line_is_a_strangers(tmp_path: Path) -> None:
    scheduler = Service(serve_scheduler, {"workers": 1}, ProcessConfig())
    address = scheduler.address
    server = Service(serve_server, ProcessConfig(scheduler=address, runtime_dir=str(tmp_path)))
    memory = WorkerMemory.create(PAGE)
    with Peer(address) as peer, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        peer.say(Hello(0, 1, "worker", -1, "h", 1, "", (), {}))
        seat = peer.hear(Welcome)
        rows = peer.hear(View, lambda view: view.phase == "running").members
        [addresses] = [row[5] for row in rows if row[1] == "server"]
        line.settimeout(10)
        line.connect(next(a for a in addresses if a.startswith("shm://")).removeprefix("shm://"))
        share = Share(4, seat.member, PAGE, False)
        line.sendall(framed(encode(told_who(seat))))
        socket.send_fds(line, [framed(encode(share))], [memory.segment.fd])
        while isinstance(answer := told(line), Waiting):  # the worker heard of the job before the server
            pass
        assert isinstance(answer, Shared)
        tcp = server.address
        for number in range(4):
            with zmtp.connect(tcp, name=b"\0line" + number.to_bytes(8, "big")) as odd:
                for message in (share, Attach(9, seat.member, 1), Leave(9, seat.member, {})):
                    odd.sendall(zmtp.frame(encode(message)))
                odd.sendall(zmtp.frame(b"junk"))
                assert odd.recv(4096), "it is answered, on its own connection"
        line.sendall(framed(encode(Attach(5, seat.member, 1))))
        assert getattr(told(line), "request", 0) == 5, "and the worker's line is as it was"
        peer.say(Ping(3))
        peer.hear(Pong)
        peer.say(Leave(6, seat.member, {}))
        peer.hear(Ok)
    assert (scheduler.result(), server.result()) == (0, 0)
