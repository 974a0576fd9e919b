"""Promises of rounds with a privacy budget: noise is paid for before it is drawn, whatever happens then, and the round
that would cost too much is not run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps.protocol.layout import Layout
from ps.protocol.messages import Finished
from ps.server.scheduler.rounds.privacy import RoundPrivacy
from support.delta_parts import job_of
from support.table import Table

DP = "eps=8,delta=1e-5,clip=1"


def table_of(dp: str = DP, **settings: Any) -> Table:
    return Table(dp=dp, **{"rounds": 3, **settings})


def collect(table: Table, squares: float = 1.0) -> None:
    """All four contribute; each server holds half of a delta's square."""
    for client, task in enumerate(table.tasks(0, 1, 2, 3)):
        table.upload(task, squares)
        table.submit(client, task, version=table.rounds.version)


def paid(table: Table) -> int:
    return int(table.rounds.status()["privacy"]["releases"])


def prepares(table: Table) -> list[Any]:
    return [order for _, order in table.orders if order.phase == "prepare"]


def test_every_round_is_paid_for_once_and_all_of_them_fit_the_budget() -> None:
    table = table_of()
    for done in range(1, 4):
        collect(table)
        assert (table.rounds.version, paid(table)) == (done, done)
    found = table.rounds.status()["privacy"]
    assert 7.9 < found["spent"] <= 8 and not found["cut_short"] and table.rounds.phase == "done"


def test_a_delta_is_held_to_the_clip_over_all_servers_whatever_its_client_claims() -> None:
    table = table_of()
    tasks = table.tasks(0, 1, 2, 3)
    for client, task in enumerate(tasks):
        table.upload(task, squares=[0.01, 2.0, 1e6, 1e300][client])
        table.submit(client, task, examples=[1.0, 1e9, 5.0, 1.0][client], steps=7)
    entries = prepares(table)[-1].entries or table.orders[-1][1].entries
    found = {entry[0]: entry[1:] for _, order in table.orders for entry in order.entries}
    assert [found[task][:2] for task in tasks] == [(1.0, 1.0)] * 4, entries
    bounds = [found[task][2] for task in tasks]
    assert bounds[0] == 1.0
    for bound, squares in zip(bounds[1:], (4.0, 2e6, 2e300), strict=True):
        assert 0.99999 < bound * squares**0.5 < 1


def test_nothing_is_prepared_before_it_is_on_disk_that_it_is_paid_for() -> None:
    table = table_of()
    table.saves = False
    collect(table)
    table.pass_time(10.0)
    assert not prepares(table) and paid(table) == 1
    table.saves = True
    table.pass_time(0.25)
    assert prepares(table) and table.rounds.version == 1 and paid(table) == 1


def test_a_scheduler_that_died_before_it_had_saved_has_drawn_nothing_and_pays_again() -> None:
    table = table_of()
    tasks = table.tasks(0, 1, 2, 3)
    saved = table.rounds.dump(), table.rounds.history
    table.saves = False
    for client, task in enumerate(tasks):
        table.contribute(client, task)
    assert paid(table) == 1 and not prepares(table)
    table.rounds = table._rounds()
    table.rounds.load(*saved, table.now)
    assert paid(table) == 0


def test_an_attempt_that_is_abandoned_after_its_noise_is_paid_for_and_so_is_the_next() -> None:
    table = table_of("eps=8,delta=1e-5,clip=1,spare=1")
    table.deaf = {1}
    collect(table)
    assert prepares(table)
    table.lose_server(1)
    table.deaf = set()
    table.bring_back(1)
    table.pass_time(1.0)
    collect(table)
    assert (table.rounds.version, paid(table)) == (1, 2)


def test_what_was_paid_survives_restarts_and_they_cost_nothing() -> None:
    table = table_of()
    collect(table)
    for rank in table.servers:
        table.restart()
        table.say(rank)
    assert (table.rounds.version, paid(table)) == (1, 1)
    spent = table.rounds.status()["privacy"]["spent"]
    table.restart()
    assert table.rounds.status()["privacy"]["spent"] == spent > 0


def test_the_round_that_would_exceed_the_budget_is_not_run() -> None:
    table = table_of()
    table.deaf = {1}
    collect(table)
    table.lose_server(1)  # one attempt more than was planned for
    table.deaf = set()
    table.bring_back(1)
    table.pass_time(1.0)
    collect(table)
    collect(table)
    assert table.rounds.phase == "done" and table.rounds.privacy.cut_short
    assert (table.rounds.version, paid(table)) == (2, 3)
    [answer] = table.poll(0)
    assert isinstance(answer, Finished) and answer.version == 2
    table.restart()
    assert table.rounds.privacy.cut_short and table.rounds.phase == "done"


def test_with_noise_given_the_budget_says_how_many_rounds_there_are() -> None:
    table = table_of("eps=8,delta=1e-5,clip=1,noise=0.9")
    collect(table)
    collect(table)
    assert (
        table.rounds.privacy.cut_short and table.rounds.version == 2 and table.rounds.status()["privacy"]["spent"] <= 8
    )


def test_noise_is_in_proportion_to_the_clip() -> None:
    small, large = prepares_of(DP), prepares_of("eps=8,delta=1e-5,clip=100")
    assert large.noise == pytest.approx(100 * small.noise) and small.clip == 1 and large.clip == 100


def prepares_of(dp: str) -> Any:
    table = table_of(dp)
    collect(table)
    return prepares(table)[-1]


@pytest.mark.parametrize(("squares", "grows"), [(1e-6, False), (1e6, True)])
def test_the_clip_adapts_towards_the_quantile_and_not_away_from_it(squares: float, grows: bool) -> None:
    table = table_of("delta=1e-5,clip=1,noise=0.3,quantile=0.5", rounds=40)
    clips = []
    for _ in range(40):
        collect(table, squares)
        clips.append(prepares(table)[-1].clip)
    # of four clients the noise of the count is a twentieth: each step is 0.1 give or take 0.01
    assert clips[-1] > 10 if grows else clips[-1] < 0.1
    assert prepares(table)[-1].noise / clips[-1] > 0.3, "the count costs something too"


def test_no_number_of_a_client_is_shown_or_kept() -> None:
    table = table_of(rounds=2)
    for client, task in enumerate(table.tasks(0, 1, 2, 3)):
        table.upload(task)
        table.submit(client, task, examples=7.0, steps=13)
    [done] = table.rounds.history
    assert (done["examples"], done["steps"], done["metrics"]) == (0.0, 4, {}), "a step for each"
    assert "13" not in str(table.rounds.status()) and "7.0" not in str(table.rounds.status())


def test_a_counter_in_the_model_is_refused_here_too() -> None:
    layout = Layout.of({"n": np.zeros(1, np.int64)}, {"n": "counter"})
    assert "n int64[1] (counter) cannot have noise" in RoundPrivacy(job_of(dp=DP), layout).failure


def test_what_cannot_be_accounted_for_is_not_begun() -> None:
    layout = Layout.of({"w": np.zeros(1, np.float32)})
    failure = RoundPrivacy(job_of(dp="eps=0.01,delta=1e-5,clip=1,noise=1"), layout).failure
    assert "costs" in failure and "more than eps=0.01" in failure


def test_a_quantile_that_so_few_clients_cannot_pay_for_is_not_begun() -> None:
    layout = Layout.of({"w": np.zeros(1, np.float32)})
    assert "more clients in a round" in RoundPrivacy(job_of(dp="eps=8,delta=1e-5,clip=1,quantile=0.5"), layout).failure
