"""Promises of rounds with correlated noise: nobody is in two of them that are too close together, and where keys of
noise may be lost the sequence ends, and another one is paid for."""

from __future__ import annotations

from typing import Any

import pytest

from ps.protocol.messages import Assign, Wait
from ps.server.scheduler.rounds.privacy import RoundPrivacy
from support.delta_parts import job_of
from support.table import LAYOUT, Table

DP = "ftrl:noise=2,delta=1e-5,clip=1,separation=3,spare=2"


def table_of(dp: str = DP, **more: Any) -> Table:
    return Table(dp=dp, **{"workers": 6, "clients_per_round": 2, "over_select": 1.0, "rounds": 9, **more})


def play(table: Table) -> list[int]:
    """All offer themselves until a round is published; return who was in it."""
    version = table.rounds.version
    while table.rounds.version == version:
        answers = dict(zip(sorted(table.live), table.poll(*sorted(table.live)), strict=True))
        table.pass_time(1.0)
        answers = {client: answer or table.answer(client) for client, answer in answers.items()}
        here = [client for client, answer in answers.items() if isinstance(answer, Assign)]
        for client in here:
            table.contribute(client, answers[client].task, version=version)
    return here


def rows(table: Table) -> list[tuple[int, int]]:
    """Return the sequence and the row of each release that was ordered, in order."""
    found = [(order.sequence, order.row) for rank, order in table.orders if order.phase == "prepare"]
    return list(dict.fromkeys(found))


def privacy(table: Table) -> dict[str, Any]:
    return dict(table.rounds.status()["privacy"])


def test_nobody_is_in_two_rounds_that_are_closer_together_than_the_separation() -> None:
    table = table_of()
    seen: dict[int, int] = {}
    for row in range(9):
        for client in play(table):
            assert row - seen.get(client, -3) >= 3
            seen[client] = row
    assert rows(table) == [(0, row) for row in range(9)] and len(seen) == 6


def test_who_may_not_be_in_the_next_round_is_told_to_come_back_later() -> None:
    table = table_of()
    [first, *_] = play(table)
    [answer] = table.poll(first)
    assert isinstance(answer, Wait) and answer.seconds > 0


def test_a_client_that_offers_itself_again_before_its_contribution_is_paid_for_is_sent_back_with_that() -> None:
    table = table_of()
    for version in range(4):
        answers = dict(zip(range(6), table.poll(*range(6)), strict=True))
        table.pass_time(1.0)
        answers = {client: answer or table.answer(client) for client, answer in answers.items()}
        first, second = (client for client, answer in answers.items() if isinstance(answer, Assign))
        table.contribute(first, answers[first].task, version=version)
        table.pass_time(1.0)  # it is known by now how long a round takes: who comes near its end waits for the next
        waits = table.poll(first) == [None]  # whether it is in the release is not known yet
        table.contribute(second, answers[second].task, version=version)
        assert table.rounds.version == version + 1
    assert waits and isinstance(table.answer(first), Wait)
    for _ in range(3):
        play(table)


def test_nobody_is_in_more_rounds_than_it_may() -> None:
    table = table_of(DP + ",participations=2", rounds=6)
    seen = [client for _ in range(6) for client in play(table)]
    assert all(seen.count(client) == 2 for client in range(6))


def test_a_server_that_may_have_lost_its_keys_ends_the_sequence_and_the_next_one_costs_more() -> None:
    table = table_of("ftrl:noise=2,delta=1e-5,clip=1,separation=3")
    for _ in range(3):
        play(table)
    whole = RoundPrivacy(table.job, LAYOUT)
    table.lose_server(1)
    table.bring_back(1)
    for _ in range(3):
        play(table)
    assert rows(table) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert whole._budget is not None and privacy(table)["sequences"] == 2
    assert privacy(table)["spent"] == pytest.approx(whole._budget.epsilon(3, 3), rel=1e-5)


def test_an_attempt_that_is_abandoned_after_it_was_paid_for_is_the_last_of_its_sequence() -> None:
    table = table_of()
    play(table)
    table.deaf = {1}
    tasks = dict(
        zip(free := [c for c in range(6) if table.rounds.privacy.admits(c)], table.tasks(*free[:2]), strict=False)
    )
    for client, task in tasks.items():
        table.contribute(client, task, version=1)
    assert privacy(table)["releases"] == 2
    table.lose_server(1)
    table.deaf = set()
    table.bring_back(1)
    table.pass_time(1.0)
    assert all(table.rounds.privacy.admits(client) for client in range(6))
    play(table)
    assert rows(table) == [(0, 0), (0, 1), (1, 0)] and privacy(table)["releases"] == 3


def test_a_scheduler_that_is_started_anew_goes_on_with_the_sequence_and_knows_who_was_in_it() -> None:
    table = table_of()
    first = play(table)
    table.restart()
    for rank in table.servers:
        table.say(rank)
    assert [table.rounds.privacy.admits(client) for client in first] == [False, False]
    play(table)
    assert rows(table) == [(0, 0), (0, 1)]


def test_a_server_that_says_that_its_keys_are_lost_has_the_attempt_given_up_and_the_sequence_ended() -> None:
    table = table_of()
    play(table)
    server = table.servers[1]
    server.deny = True  # as one does that was started anew and that nobody missed
    tasks = table.tasks(*[c for c in range(6) if table.rounds.privacy.admits(c)][:2])
    for client, task in zip([c for c in range(6) if table.rounds.privacy.admits(c)][:2], tasks, strict=True):
        table.contribute(client, task, version=1)
    server.deny = False
    table.pass_time(1.0)
    assert table.rounds.abandoned == 1
    play(table)
    assert rows(table) == [(0, 0), (0, 1), (1, 0)]


def test_the_round_for_which_another_sequence_would_cost_too_much_is_not_run() -> None:
    table = table_of("ftrl:eps=8,delta=1e-5,clip=1,separation=3", rounds=6)
    for _ in range(4):
        play(table)
        table.lose_server(0)
        table.bring_back(0)
        if table.rounds.phase == "done":
            break
    table.poll(*range(6))
    table.pass_time(2.0)
    assert table.rounds.privacy.cut_short and table.rounds.version < 6 and privacy(table)["spent"] <= 8


@pytest.mark.parametrize("rounds", [200_000])
def test_more_rounds_than_can_be_accounted_for_are_not_begun(rounds: int) -> None:
    about = job_of(dp="ftrl:eps=8,delta=1e-5,clip=1,separation=2", workers=8, clients_per_round=4, rounds=rounds)
    assert "100,000 are the most" in RoundPrivacy(about, LAYOUT).failure
