"""Promises of a scheduler's journal: whoever watches is told who came, who went, and how it ended, without a flood."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ps.protocol.messages import Heartbeat, Leave
from ps.server.scheduler.absence import Absence
from ps.server.scheduler.ending import Ending
from ps.server.scheduler.journal import MOST, Journal
from support.desk import Desk
from support.table import Table


def look(desk: Desk, journal: Journal) -> list[str]:
    return journal.look(desk.state, desk.now)


def test_it_says_who_joined_that_the_job_begins_who_died_and_how_it_ended() -> None:
    desk, journal = Desk(heartbeat_timeout=5.0), Journal()
    assert look(desk, journal) == []
    desk.join("server")
    first = desk.join().member
    assert look(desk, journal) == [
        "server 0 (host, pid 1), worker 0 (host, pid 2) joined: 1 of 1 server, 1 of 2 workers here"
    ]
    assert look(desk, journal) == []
    second = desk.join().member
    lines = look(desk, journal)
    assert lines[0].startswith("worker 1 (host, pid 3) joined: 1 of 1 server, 2 of 2 workers here")
    assert lines[1].startswith("the job begins: mode sync, optimizer ")
    desk.say(Heartbeat(first, 1, {"steps": 40, "measured": {"accuracy": 0.75}}))
    desk.wait(6.0, second)
    assert look(desk, journal) == ["worker 1 (host, pid 3) died: no heartbeat for 5 s"]
    desk.say(Leave(1, first, {"steps": 41, "measured": {"accuracy": 0.75}}))
    assert look(desk, journal) == [
        "worker 0 (host, pid 2) left",
        "the job has ended in good order: 41 steps by 1 worker, accuracy 0.75",
    ]


def test_a_job_without_workers_is_said_to_be_kept_once() -> None:
    desk, journal = Desk(heartbeat_timeout=5.0, idle_timeout=600), Journal()
    desk.join("server")
    members = [desk.join().member for _ in range(2)]
    look(desk, journal)
    desk.wait(6.0, *members)
    said = "no worker is left; the model is kept for 600 s (--idle-timeout) for others to join"
    assert look(desk, journal)[-1] == said
    desk.wait(6.0, *members)
    assert look(desk, journal) == []


def test_of_many_that_come_at_once_only_the_number_is_said() -> None:
    desk, journal = Desk(workers=100), Journal()
    for _ in range(MOST + 5):
        desk.join()
    assert look(desk, journal) == [f"{MOST + 5} members joined: 0 of 1 server, {MOST + 5} of 100 workers here"]


def test_a_job_that_fails_says_why() -> None:
    desk, journal = Desk(heartbeat_timeout=5.0), Journal()
    workers = desk.fill()
    look(desk, journal)
    desk.wait(6.0, min(set(desk.state.members) - set(workers)))
    assert any(line.startswith("the job failed: server 0") for line in look(desk, journal))


def test_rounds_are_told_of_now_and_then_and_the_last_one_always() -> None:
    table, journal, lines = Table(workers=2, rounds=4), Journal(), []
    state: Any = SimpleNamespace(
        epoch=0,
        members={},
        phase="running",
        absence=Absence(),
        rounds=table.rounds,
        count=lambda role: 0,
        ending=Ending(),
    )
    journal._phase = "running"
    journal._seen = 0, 0, 0, 0, "running"
    for version in range(4):
        for client, task in enumerate(table.tasks(0, 1)):
            table.contribute(client, task, version=version)
        lines.append(journal.look(state, now=4.0 * version))
    counted = "2 of 2 contributions counted"
    assert lines == [
        [f"round 1 of 4 is done: {counted}"],
        [],
        [],
        [f"round 4 of 4 is done: {counted}"],
    ]
