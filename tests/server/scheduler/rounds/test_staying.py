"""Promises of a job of very many clients: who is not drawn stays until it is, and asks once for each of its tasks."""

from __future__ import annotations

from typing import Any

import pytest

from ps.protocol.messages import Assign, Decline, Poll, Submitted
from ps.server.scheduler.rounds import assignments
from support.table import Table


def offer(table: Table, *clients: int) -> None:
    """Clients offer themselves; what they are told is kept."""
    for client in clients:
        table.numbers += 1
        table._tell(table.rounds.poll(Poll(table.numbers, 100 + client, 0, {}), client, table.now))


def drawn(table: Table) -> dict[int, int]:
    """Return the tasks of those that were drawn. Nobody is told to come back later."""
    found = {client: [each for each in said if not isinstance(each, Submitted)] for client, said in table.heard.items()}
    table.heard.clear()
    assert all(isinstance(each, Assign) for said in found.values() for each in said), found
    return {client: said[-1].task for client, said in found.items() if said}  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten clients are very many."""
    monkeypatch.setattr(assignments, "MANY", 9)


@pytest.mark.parametrize("more", [{"rounds": 40}, {"rounds": 40, "algorithm": "fedbuff:3"}], ids=["rounds", "buffer"])
def test_every_client_has_its_turn_though_only_those_ask_whose_task_is_over(more: dict[str, Any]) -> None:
    table = Table(workers=10, clients_per_round=3, over_select=1.0, **more)
    offer(table, *range(10))
    counts = dict.fromkeys(range(10), 0)
    while table.rounds.version < 40:
        tasks = drawn(table)
        assert tasks, "a round begins as soon as all are there, with nobody waiting for others to come back"
        for client, task in tasks.items():
            counts[client] += 1
            table.contribute(client, task, version=table.rounds.version)
        offer(table, *(tasks if table.rounds.version < 40 else ()))
    assert sum(counts.values()) == 120 and min(counts.values()) >= 4, counts


def test_who_asks_often_is_drawn_no_more_often_than_others() -> None:
    found = []
    for often in (1, 20):
        table = Table(workers=10, clients_per_round=2, over_select=1.0)
        offer(table, *range(9), *[3] * often, 9)
        found.append(drawn(table).keys())
    assert found[0] == found[1] and len(found[0]) == 2


def test_those_who_stay_take_the_places_of_all_who_give_up() -> None:
    table = Table(workers=10, clients_per_round=1, over_select=1.0, min_clients=1)
    table.rounds._assignments._returning._due = -100.0  # nobody is counted on to come back
    offer(table, *range(10))
    for _ in range(9):
        [(client, task)] = drawn(table).items()
        table._tell(table.rounds.decline(Decline(1, 100 + client, task, "why"), client, table.now))
        table.heard.pop(client)
    assert len(drawn(table)) == 1 and table.rounds.abandoned == 0


def test_a_client_that_goes_while_it_stays_is_not_drawn() -> None:
    table = Table(workers=10, clients_per_round=2, over_select=1.0, min_clients=1)
    offer(table, *range(9))
    for client in range(1, 9):
        table.lose(client)
    offer(table, 9)
    assert drawn(table).keys() == {0, 9}
