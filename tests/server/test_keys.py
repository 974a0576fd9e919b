"""Promises of keys among members: a key says what its owner may be and say; who was revoked is cut off everywhere."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from ps.config import ProcessConfig
from ps.keys import key_folder
from ps.protocol import messages as m
from ps.protocol import rights
from ps.protocol.layout import Layout
from ps.protocol.messages import (
    TYPES,
    Identify,
    Message,
    Ping,
    Pong,
    Status,
    StatusRequest,
    View,
    Welcome,
)
from support.keyed import Keyed, KeyedPeer, Ring
from support.keyed_job import Job, hello, joined, told
from support.schema import extreme

HEARTBEAT = 10.0
"""The time-out of a heartbeat, in which whoever was revoked must be cut off; it takes less than one."""


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(
        tmp_path / "keys",
        server="server",
        worker="worker",
        other="worker",
        client="client",
        operator="operator",
        helper="helper",
    )


@pytest.fixture
def job(ring: Ring) -> Iterator[Job]:
    with Job(ring) as made:
        yield made


def test_every_message_is_somebodys_to_say_or_the_answer_of_a_process() -> None:
    tables = (rights.TO_SCHEDULER, rights.TO_SERVER, rights.TO_WORKER)
    said = set().union(*(kinds for table in tables for kinds in table.values())) | {m.Ping, m.Error}
    answers = {
        *(m.Welcome, m.View, m.HeartbeatAck, m.InitGrant, m.BarrierLeave, m.Status, m.Pong, m.Ok, m.Keys, m.Seat),
        *(m.Attached, m.NormPart, m.Weights, m.WeightsDelta, m.Pushed, m.Vetoed, m.Late, m.Shared, m.Waiting),
        *(m.Wait, m.Assign, m.Finished, m.Submitted, m.Stored, m.Busy, m.UploadState, m.RoundOrder),
        *(m.Followed, m.Marked, m.Peeked, m.Neighbours, m.Credit, m.CutChosen, m.Held, m.Kept),
        *(m.Cohort, m.ShareInbox, m.Unmask, m.Consents, m.Unseal, m.CheckpointOrder, m.CheckpointMade, m.HelpOrder),
        *(m.Placed, m.Drained, m.MoveOrder, m.Moved, m.Quorum, m.Contributors),
        *(m.Placed, m.Drained, m.MoveOrder, m.Moved),
        m.Lease,
        *(m.ReplicaModel, m.ReplicaParticipants, m.ReplicaArray),
        *(m.ReplicaRecord, m.ReplicaStep, m.ReplicaFilled, m.ReplicaPing),
    }
    assert not said & answers
    assert said | answers == set(TYPES.values())


@pytest.mark.parametrize("role", ["worker", "client", "operator", "helper", "server"])
@pytest.mark.parametrize("to", ["scheduler", "server"])
def test_a_key_gives_the_right_to_say_what_its_role_says_and_nothing_else(job: Job, role: str, to: str) -> None:
    chance, table = random.Random(3), {"scheduler": rights.TO_SCHEDULER, "server": rights.TO_SERVER}[to]
    others = [kind for kind in TYPES.values() if kind not in table[role] | {m.Ping, m.Error}]
    with job.peer(role, to) as peer, contextlib.ExitStack() as peers:
        for number, kind in enumerate(others):
            if number % 10 == 0:  # who says little but what it may not is cut off
                peer = peers.enter_context(job.peer(role, to))
            error = told(peer, extreme(kind, chance))
            assert error.code == "bad-message" and f"the key of a {role} may not say {kind.__name__}" in error.text
        peer.say(Ping(9))
        assert peer.hear(Pong).request == 9


def test_only_operators_and_members_of_training_look_at_the_status(job: Job) -> None:
    with job.peer("operator") as operator, job.peer("client") as client:
        operator.say(StatusRequest(1))
        assert operator.hear(Status).status["phase"] == "waiting"
        assert "may not say StatusRequest" in told(client, StatusRequest(1)).text


@pytest.mark.parametrize(
    ("name", "role", "why"),
    [
        ("worker", "server", "has the key of a worker, and cannot be a server"),
        ("client", "server", "has the key of a client, and cannot be a server"),
        ("server", "worker", "has the key of a server, and cannot be a worker"),
        ("client", "worker", "takes part in federated jobs only"),
    ],
)
def test_with_a_key_nobody_becomes_a_member_of_another_role(job: Job, name: str, role: str, why: str) -> None:
    with job.peer(name) as peer:
        error = told(peer, hello(role))
        assert error.code == "key" and why in error.text


def test_a_client_is_a_worker_of_a_federated_job(ring: Ring) -> None:
    with Job(ring, mode="federated") as job, job.peer("client") as peer:
        assert joined(peer).rank == 0


def test_a_server_cannot_have_others_be_sent_to_a_key_that_is_not_its_own(ring: Ring) -> None:
    key = ring.folder("scheduler").own.public.curve
    with (
        Keyed() as job,
        KeyedPeer(job.scheduler(ProcessConfig(keys=ring["scheduler"]), servers=2), ring.folder("server"), key) as peer,
    ):
        for address in ("tcp://127.0.0.1:1", f"tcp://127.0.0.1:1?key={'0' * 64}"):
            error = told(peer, hello("server", addresses=(address,)))
            assert error.code == "key" and "is told without the key of server" in error.text
        own = ring.folder("server").own.public.curve.hex()
        member = joined(peer, hello("server", addresses=(f"tcp://127.0.0.1:1?key={own}",))).member
        peer.say(m.Leave(1, member, {}))
        peer.hear(m.Ok)


def test_a_server_hears_whom_to_let_in_with_its_welcome_and_need_not_ask(ring: Ring) -> None:
    key = ring.folder("scheduler").own.public.curve
    with (
        Keyed() as job,
        KeyedPeer(job.scheduler(ProcessConfig(keys=ring["scheduler"]), servers=2), ring.folder("server"), key) as peer,
    ):
        for number in (1, 2, 3):  # turns of the scheduler, which has told its list to those who were there at first
            peer.say(Ping(number))
            peer.hear(Pong, lambda pong, asked=number: pong.request == asked)  # type: ignore[misc]
        member = joined(peer, hello("server")).member
        assert {row[0] for row in peer.hear(m.Keys).admitted} > {"worker", "operator"}
        peer.say(m.Leave(1, member, {}))
        peer.hear(m.Ok)


def test_what_proves_a_member_is_worth_nothing_with_another_key(job: Job) -> None:
    with job.peer("worker") as mine, job.peer("other") as thief, job.peer("worker", "server") as there:
        seat = joined(mine)
        proof = Identify(0, seat.job_id, seat.member, seat.rank, seat.number, seat.proof)
        assert told(thief, proof).code == "key"
        with job.peer("worker") as again:
            again.say(proof)
            assert again.hear(Welcome).member == seat.member
        there.say(proof)
        there.say(Ping(1))
        assert there.hear(Pong)
        with job.peer("other", "server") as stolen:
            assert told(stolen, proof).code == "stranger"


def test_a_hello_that_somebody_else_says_again_is_no_way_into_a_member(job: Job) -> None:
    with job.peer("worker") as mine, job.peer("other") as thief, job.peer("worker") as again:
        said = hello()
        member = joined(mine, said).member
        error = told(thief, said)
        assert error.code == "key" and "came with another key than that of other" in error.text
        mine.say(StatusRequest(1))
        assert mine.hear(Status), "the connection is its member's as before"
        assert joined(again, said).member == member


def test_two_processes_with_one_key_are_two_members_of_which_none_speaks_for_the_other(job: Job) -> None:
    with job.peer("worker") as one, job.peer("worker") as two:
        first, second = joined(one).member, joined(two).member
        assert first != second
        assert told(two, m.InitDone(1, first)).code == "stranger"
        job.ring.revoke("worker")
        status = job.until(lambda status: len(status["deaths"]) == 2)
        assert {death["why"] for death in status["deaths"]} == {"its key was revoked"}


def test_an_operator_who_is_revoked_while_he_asks_gets_no_answer_any_more(job: Job) -> None:
    with job.peer("operator") as asks, job.peer("operator", "server") as follows:
        asks.say(StatusRequest(1))
        assert asks.hear(Status)
        follows.say(Ping(1))
        assert follows.hear(Pong)
        job.ring.revoke("operator")
        number = 0
        while not asks.seen["cut"]:  # in the midst of a stream of questions
            number += 1
            asks.say(StatusRequest(number + 1))
            asks.until("cut", bound=0.001)
        assert follows.until("cut") == "cut"
        assert asks.until("in", "refused") == follows.until("in", "refused") == "refused"


def test_an_upload_whose_client_is_revoked_between_two_chunks_does_not_count(ring: Ring) -> None:
    ring.add("mate", "client")
    settings = {"mode": "federated", "workers": 2, "min_clients": 1, "clients_per_round": 2, "chunk_size": 4096}
    layout = Layout.of({"w": np.zeros(2048, np.float32)}).pack()
    with (
        Job(ring, **settings) as job,
        job.peer("client") as red,
        job.peer("client", "server") as to_red,
        job.peer("mate") as blue,
        job.peer("mate", "server") as to_blue,
    ):
        members = {}
        for here, there in ((red, to_red), (blue, to_blue)):
            seat = joined(here)
            members[here] = seat
            there.say(Identify(0, seat.job_id, seat.member, seat.rank, seat.number, seat.proof))
        red.hear(View, lambda view: view.phase == "running")
        red.say(m.InitRequest(1, members[red].member, layout))
        assert red.hear(m.InitGrant).seed
        to_red.say(m.Init(2, members[red].member, 1, 4096, layout))
        assert to_red.hear(m.Ok).request == 2
        for number in (0, 1):
            to_red.say(m.InitChunk(3 + number, members[red].member, number), bytes(4096))
            assert to_red.hear(m.Ok).request == 3 + number
        red.say(m.InitDone(5, members[red].member))
        tasks: dict[KeyedPeer, m.Assign] = {}
        while len(tasks) < 2:
            for here in (red, blue):
                here.say(m.Poll(6, members[here].member, -1, {}))
                if isinstance(
                    answer := here.hear(Message, lambda found: isinstance(found, m.Assign | m.Wait)), m.Assign
                ):
                    tasks[here] = answer

        def upload(here: KeyedPeer, there: KeyedPeer, number: int) -> None:
            seat, task = members[here], tasks[here]
            about = m.Upload(10 + number, seat.member, task.task, task.round, seat.rank, number, task.token)
            there.say(about, np.ones(1024, np.float32).tobytes())

        def submit(here: KeyedPeer) -> None:
            task = tasks[here]
            here.say(m.Submit(20, members[here].member, task.task, task.round, 8.0, 1, {}, task.token))

        upload(red, to_red, 0)
        assert to_red.hear(m.Stored).chunk == 0
        for sock in (red.socket, to_red.socket):
            sock.setsockopt(zmq.SNDTIMEO, 0)
        ring.revoke("client")
        assert to_red.until("cut") == "cut" and red.until("cut") == "cut"
        with contextlib.suppress(zmq.Again):  # there may be no connection any more on which to say it
            upload(red, to_red, 1)
            submit(red)
        for number in (0, 1):
            upload(blue, to_blue, number)
            assert to_blue.hear(m.Stored).chunk == number
        submit(blue)
        assert blue.hear(m.Submitted).verdict == "accepted"
        status = job.until(lambda status: status["federated"]["history"])
        [row] = status["federated"]["history"]
        assert row["accepted"] == 1 and [*row["clients"]] == [members[blue].rank]
        assert not to_red.socket.poll(0), "nothing more was stored of it"


def test_a_revoked_member_is_cut_off_by_all_and_dead_and_comes_back_with_a_key_that_is_listed_again(job: Job) -> None:
    with job.peer("worker") as mine, job.peer("worker", "server") as there, job.peer("other", "server") as friend:
        member = joined(mine).member
        friend.say(Ping(0))
        assert friend.hear(Pong)
        assert there.until("in") == friend.until("in") == "in"
        began = time.monotonic()
        job.ring.revoke("worker")
        assert mine.until("cut") == there.until("cut") == "cut"
        assert time.monotonic() - began < HEARTBEAT
        assert mine.until("in", "refused") == there.until("in", "refused") == "refused"
        status = job.until(lambda status: status["deaths"])
        assert status["deaths"][0]["why"] == "its key was revoked"
        friend.say(Ping(1))
        assert friend.hear(Pong) and not friend.seen["cut"]
    key_folder.add(job.ring["scheduler"], "worker", Path(job.ring["worker"]) / "public.key")
    for to in ("scheduler", "server"):  # which have to have heard of it
        end = time.monotonic() + 10
        while not let_in(job, to):
            assert time.monotonic() < end
    with job.peer("worker") as again:
        assert joined(again).member != member


def let_in(job: Job, to: str) -> bool:
    with job.peer("worker", to) as peer:
        return peer.until("in", "refused") == "in"


def test_a_connection_on_which_nothing_was_said_is_cut_too(job: Job) -> None:
    with job.peer("worker") as silent:
        assert silent.until("in") == "in"
        job.ring.revoke("worker")
        assert silent.until("cut") == "cut"


def test_what_was_revoked_while_there_was_no_scheduler_is_dead_when_there_is_one_again(
    ring: Ring, tmp_path: Path
) -> None:
    from ps.server.scheduler.service import Scheduler

    process = ProcessConfig(keys=ring["scheduler"], state=str(tmp_path / "state.db"))
    first = Scheduler({"servers": 1}, process)
    first._inbox.speaker = ring.folder("worker").own.public
    first._hear(b"x", hello(), None)
    first._keep()
    first._close()
    ring.revoke("worker")
    second = Scheduler({"servers": 1}, process)
    [record] = second._state.live("worker")
    second._part_from_the_revoked()
    assert record.why == "its key was revoked" and not second._state.live("worker")
    second._close()


def test_a_key_that_is_listed_while_the_job_runs_gets_in_everywhere(job: Job) -> None:
    job.until(lambda status: status["servers"])
    job.ring.add("late", "worker")
    with job.peer("late", "server") as there, job.peer("late") as here:
        assert there.until("in", "refused") == here.until("in", "refused") == "in"


def test_old_and_new_keys_of_a_member_are_let_in_side_by_side(job: Job, tmp_path: Path) -> None:
    ring = job.ring
    key_folder.create(ring.path / "new", "worker", "worker", signing=False)
    key_folder.add(ring["new"], "scheduler", Path(ring["scheduler"]) / "public.key")
    key_folder.add(ring["scheduler"], "worker", Path(ring["new"]) / "public.key", beside=True)
    with job.peer("worker") as old, job.peer("new") as new:
        assert joined(old).member != joined(new).member


def test_damaged_lists_leave_everything_as_it_was(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    expected = job.ring.folder("scheduler").own.public.curve
    with job.peer("worker") as peer:
        joined(peer)
        (Path(job.ring["scheduler"]) / "other.pub").write_text("nonsense")
        job.ring.add("late", "worker", listed=False)
        (Path(job.ring["scheduler"]) / "late.pub").write_bytes((Path(job.ring["late"]) / "public.key").read_bytes())
        end = time.monotonic() + 10
        while "the keys are kept as they were" not in caplog.text:
            assert time.monotonic() < end
            time.sleep(0.05)
        with KeyedPeer(job.address, job.ring.folder("late"), expected) as late:
            assert late.until("in", "refused") == "refused"
        peer.say(Ping(1))
        assert peer.hear(Pong)


def test_members_move_to_a_scheduler_with_a_new_key_that_they_list_beside_the_old_one(
    ring: Ring, tmp_path: Path
) -> None:
    explicit = {"servers": 1, "workers": 1}
    key_folder.create(ring.path / "new", "scheduler", "scheduler", signing=False)
    for name in ("server", "worker", "operator"):
        key_folder.add(ring["new"], name, Path(ring[name]) / "public.key")
    key_folder.add(ring["server"], "scheduler", Path(ring["new"]) / "public.key", beside=True)
    with Keyed() as job:
        address = job.scheduler(ProcessConfig(keys=ring["new"]), **explicit)
        job.server(ProcessConfig(keys=ring["server"], scheduler=address))
        with KeyedPeer(address, ring.folder("worker"), ring.folder("new").own.public.curve) as peer:
            joined(peer)
            assert peer.hear(View, lambda view: len(view.members) == 2)
