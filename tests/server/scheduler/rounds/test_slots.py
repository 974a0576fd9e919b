"""Promises of slots: a client of an asynchronous job that hangs keeps nobody waiting, and a slow one loses nothing."""

from __future__ import annotations

import pytest

from ps.protocol.messages import Assign
from support.table import Table


def warm(table: Table) -> int:
    """Let three clients contribute, so that it is known what is typical; return the version."""
    for client, task in enumerate(table.tasks(0, 1, 2)):
        table.contribute(client, task)
    return table.rounds.version


def test_a_client_that_hangs_holds_no_slot_beyond_the_deadline_and_its_contribution_still_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = Table(algorithm="fedbuff:1", workers=5, clients_per_round=3, rounds=20)
    warm(table)
    hung = table.tasks(0, 1, 2)
    assert table.poll(3) == [None], "all slots are taken"
    table.pass_time(59.0)
    assert table.answer(3) is None
    assert table.rounds.wake(table.now) == 60.0, "and somebody looks then"
    table.pass_time(1.0)
    task = table.answer(3)
    assert isinstance(task, Assign)
    assert caplog.messages[0].startswith(f"client {hung.index(min(hung))} has had task {min(hung)} for 60 s")
    assert len(caplog.messages) == 3
    assert table.contribute(3, task.task) == "accepted"
    assert table.contribute(0, hung[0]) == "accepted"
    assert table.rounds.version == 5


def test_all_may_hang_and_others_go_on_round_after_round() -> None:
    table = Table(algorithm="fedbuff:1", workers=7, clients_per_round=3, rounds=20)
    first = warm(table)
    for crowd in ((0, 1, 2), (3, 4, 5)):
        table.poll(*crowd)
        table.pass_time(61.0)
    for version in range(first, first + 5):
        table.contribute(6, table.task(6), version=version)
    assert table.rounds.version == first + 5


def test_what_asynchronous_clients_bring_too_late_is_stale_whether_they_submitted_or_not() -> None:
    table = Table(algorithm="fedbuff:1", workers=3, rounds=9, max_staleness=2)
    first = warm(table)
    old = table.task(0)
    for version in range(first, first + 4):
        table.contribute(1, table.task(1), version=version)
    assert table.refused == {"stale": 1}
    assert table.contribute(0, old) == "stale"
