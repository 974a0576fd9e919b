"""Promises of rounds for which each client is drawn by itself: with the chance that is accounted for, once in an
attempt, by nobody's seed; and nobody is shown who was."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from ps.protocol.messages import Assign, Heartbeat, RoundOrder
from ps.server.scheduler.rounds.poisson_sampling import PoissonSampling
from ps.server.scheduler.status import snapshot
from ps.server.scheduler.waits import Waits
from support.chances import chi_square
from support.desk import Desk
from support.table import Table

DP = "poisson:noise=1,delta=1e-5,clip=1"
EVERYBODY = range(8)


def table_of(**settings: Any) -> Table:
    return Table(dp=DP, **{"workers": 8, "clients_per_round": 4, "rounds": 300, **settings})


def drawn(table: Table) -> list[int]:
    """Everybody offers himself; return who has a task."""
    missing = [client for client in EVERYBODY if client in table.live]
    answers = dict(zip(missing, table.poll(*missing), strict=True))
    return [client for client, answer in answers.items() if isinstance(answer, Assign)]


def play(table: Table) -> list[int]:
    """Let a round be; return who was in it."""
    answers = table.poll(*EVERYBODY)
    answers = [answer or table.answer(client) for client, answer in zip(EVERYBODY, answers, strict=True)]
    here = [client for client, answer in enumerate(answers) if isinstance(answer, Assign)]
    for client in here:
        table.contribute(client, answers[client].task, version=table.rounds.version)
    return here


def test_each_client_is_in_each_round_with_the_same_chance_and_by_itself() -> None:
    seen = [play_alone() for _ in range(400)]
    each = Counter(client for here in seen for client in here)
    assert chi_square([each[client] for client in EVERYBODY], [200.0] * 8) > 1e-6
    sizes = Counter(len(here) for here in seen)
    binomial = [1, 8, 28, 56, 70, 56, 28, 8, 1]
    assert chi_square([sizes[size] for size in range(9)], [400 * each / 256 for each in binomial]) > 1e-6


def play_alone() -> list[int]:
    """Return who is drawn for the first round of a job: the seed is the same each time."""
    return drawn(table_of())


def test_rounds_are_what_they_are_by_whoever_was_drawn_and_however_few() -> None:
    table = table_of(rounds=60)
    sizes = [len(play(table)) for _ in range(60)]
    assert table.rounds.version >= 60 and table.rounds.abandoned == 0 and len(set(sizes)) > 2
    counts = {order.version: order.count for _, order in table.orders if order.phase == "prepare"}
    assert len(counts) == 60


def test_nobody_is_drawn_twice_in_an_attempt_however_often_he_offers_himself() -> None:
    table = table_of()
    while not (here := drawn(table)):
        pass
    left = [client for client in EVERYBODY if client not in here]
    for _ in range(50):
        table.poll(*left)
        table.pass_time(1.0)
    assert not [client for client in left if isinstance(table.answer(client), Assign)]


def test_after_a_restart_nobody_has_a_second_chance() -> None:
    sampling = PoissonSampling(1.0)
    assert not sampling.takes(3)
    sampling.begin()
    assert sampling.takes(3)
    sampling = PoissonSampling(0.5)
    sampling.begin()
    first = [sampling.takes(rank) for rank in range(100)]
    assert [sampling.takes(rank) for rank in range(100)] == first and 10 < sum(first) < 90


def test_who_was_drawn_and_is_gone_only_makes_the_round_smaller() -> None:
    table = table_of()
    while not (here := drawn(table)):
        pass
    version = table.rounds.version
    for client in here:
        table.lose(client)
    assert table.rounds.version > version and table.rounds.abandoned == 0, "for the next ones nobody may be drawn"
    orders = [order for _, order in table.orders if (order.phase, order.version) == ("prepare", version)]
    assert orders and not any(weight for order in orders for _, weight, _, _ in order.entries)


def test_a_round_without_anybody_is_noise_and_is_paid_for() -> None:
    table = table_of(workers=8, clients_per_round=1)
    for _ in range(40):
        play(table)
    empty = [order for _, order in table.orders if order.phase == "prepare" and not any(e[1] for e in order.entries)]
    assert empty and all(order.noise > 0 and order.clip == 1 for order in empty)
    assert table.rounds.status()["privacy"]["releases"] == table.rounds.version


def told(table: Table) -> str:
    """Return what is shown of rounds, but for what does not depend on clients."""
    shown = table.rounds.status()
    for row in (shown, *shown["history"]):
        for key in ("round", "at", "seconds", "privacy", "attempt"):
            row.pop(key, None)
    return json.dumps(shown, default=str)


@pytest.mark.parametrize("squares", [1.0, 1e6])
def test_what_is_shown_is_the_same_whoever_was_drawn(squares: float) -> None:
    shown = set()
    for _ in range(5):
        table = table_of(rounds=300)
        sizes = []
        while table.rounds.version < 6:
            sizes.append(len(play(table)))
        shown.add(told(table)[: told(table).index("history")])
        rows = [dict(row) for row in table.rounds.history[:6]]
        assert all(not row["clients"] and not row["refused"] and not row["accepted"] for row in rows), rows
        assert all(not row["selected"] and not row["steps"] and not row["metrics"] for row in rows), rows
    assert len(shown) == 1


def test_no_row_of_a_client_tells_whether_it_trains() -> None:
    desk = Desk(mode="federated", dp=DP, rounds=3, workers=2, clients_per_round=1)
    desk.fill()
    [member, *_] = [record.number for record in desk.state.live("worker")]
    report = {"clock": 7, "waits": [{"for": "scheduler", "what": "a task", "seconds": 9.0}], "steps": 13}
    desk.state.receive(Heartbeat(member, 1, report), 0.0)
    rows = snapshot(desk.state, 9.0, address="", uptime=1.0, rejected={})["workers"]
    assert any("steps" in row or row["clock"] == 7 for row in rows) is (desk.state.rounds is None)
    desk.state.rounds = table_of().rounds
    rows = snapshot(desk.state, 9.0, address="", uptime=1.0, rejected={})["workers"]
    assert rows and not any(report.keys() & row.keys() - {"clock"} or row["clock"] for row in rows)
    waits = Waits()
    waits.look(desk.state, 9.0)
    assert "a task" not in str(waits.shown(99.0))


def test_the_order_that_servers_get_has_the_noise_for_the_fixed_denominator() -> None:
    table = table_of(rounds=10)
    while table.rounds.version < 3:
        play(table)
    noises = {order.noise for _, order in table.orders if isinstance(order, RoundOrder) and order.phase == "prepare"}
    assert len(noises) == 1
