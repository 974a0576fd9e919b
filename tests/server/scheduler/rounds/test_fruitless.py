"""Promises about clients of which nothing counts: they are named, with the reasons, and nobody else is."""

from __future__ import annotations

import pytest

from ps.server.scheduler.rounds.fruitless import MOST_CLIENTS, MOST_NAMED, Fruitless
from support.table import Table


def test_a_client_with_nothing_but_refusals_is_named_once_with_their_reasons(caplog: pytest.LogCaptureFixture) -> None:
    table = Table(algorithm="fedbuff:1", workers=3, rounds=30, max_staleness=2)
    for client, task in enumerate(table.tasks(0, 1, 2)):
        table.contribute(client, task)
    for _ in range(4):
        old = table.task(0)
        for _ in range(4):
            table.contribute(1, table.task(1), version=table.rounds.version)
        assert table.contribute(0, old) == "stale"
    assert caplog.messages == ["nothing of client 0 counts: its last 3 contributions were refused, 3 × stale"]
    assert table.rounds.status()["fruitless"] == [0]
    assert table.contribute(0, table.task(0), version=table.rounds.version) == "accepted"
    assert table.rounds.status()["fruitless"] == []


def test_who_was_not_needed_or_gave_its_task_back_is_not_fruitless() -> None:
    found = Fruitless()
    for why in ("vanished", "declined", "unfinished") * 10:
        found.refused(1, why)
    assert found.clients == []


def test_what_is_remembered_is_bounded() -> None:
    found = Fruitless()
    for client in range(10 * MOST_CLIENTS):
        for _ in range(3):
            found.refused(client, "norm")
    assert len(found.clients) == MOST_NAMED and len(found._refused) == MOST_CLIENTS


def nothing_but_nan(table: Table, *clients: int) -> None:
    for client, task in zip(clients, table.tasks(*clients), strict=True):
        table.upload(task, wrong="nan")
        table.submit(client, task)
    table.pass_time(61.0, step=5.0)


def test_a_job_of_nothing_but_nan_ends_after_three_attempts_and_says_why() -> None:
    table = Table(min_clients=1)
    for attempt in range(3):
        assert not table.rounds.failure, attempt
        nothing_but_nan(table, 0, 1, 2, 3)
    assert table.rounds.failure == (
        "round 0 was abandoned 3 times; the last time 0 contributions counted, and at least 1 are needed; refused were "
        "12 × nan. Is the learning rate too large?"
    )


def test_one_client_alone_cannot_end_a_job_with_nan() -> None:
    table = Table(min_clients=1)
    for _ in range(10):
        nothing_but_nan(table, 0)
    assert not table.rounds.failure
    table.contribute(1, table.task(1))
    table.pass_time(61.0)
    assert table.rounds.version == 1
