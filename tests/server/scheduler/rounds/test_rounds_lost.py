"""Promises of the rounds when messages, servers or the scheduler are lost: all is said again, nothing counts twice."""

from __future__ import annotations

import pytest

from ps.protocol.messages import RoundStatus
from support.table import Table


def test_a_submission_of_which_a_server_shows_nothing_is_to_be_uploaded_again() -> None:
    table = Table(algorithm="fedbuff:2")
    [task] = table.tasks(0)
    table.upload(task, servers=[0])
    assert table.submit(0, task) is None
    table.pass_time(4.0)
    assert table.answer(0) is None
    table.pass_time(2.0)
    assert table.verdict(0) == "resume"
    table.upload(task, servers=[1])
    assert table.submit(0, task) == "accepted"


def test_an_attempt_that_is_abandoned_goes_on_with_those_who_are_still_at_it() -> None:
    """Nobody polls: all wait for the verdict on what they have submitted."""
    table = Table()
    tasks = table.tasks(0, 1, 2, 3)
    for client in (0, 1):
        table.upload(tasks[client])
        table.submit(client, tasks[client])
    table.lose_server(1)
    assert table.verdict(0) == table.verdict(1) == "resume" and table.rounds.abandoned == 1
    table.bring_back(1)
    for client, task in enumerate(tasks):
        table.upload(task, servers=[1])
        table.upload(task, servers=[0])
        table.submit(client, task)
    table.pass_time(2.0)
    assert table.rounds.version == 1 and table.rounds.history[0]["accepted"] == 4


def test_what_a_lost_server_had_is_not_counted_before_it_has_it_again() -> None:
    table = Table(min_clients=1)
    tasks = table.tasks(0, 1, 2, 3)
    for client in (0, 1):
        table.upload(tasks[client])
        table.submit(client, tasks[client])
    table.lose_server(1)
    table.bring_back(1)
    for client in (0, 1):
        assert table.verdict(client) == "resume" and table.submit(client, tasks[client]) is None
    for client in (2, 3):
        table.upload(tasks[client])
        table.submit(client, tasks[client])
    table.pass_time(2.0)
    assert table.rounds.status()["accepted"] == 0
    table.pass_time(5.0)
    assert table.verdict(0) == table.verdict(1) == "resume"
    for client in (0, 1):
        table.contribute(client, tasks[client])
    assert table.rounds.version == 1 and table.rounds.history[0]["accepted"] == 4


def test_what_is_over_above_the_floor_is_dropped_when_a_round_is_published() -> None:
    """Or half an upload of a client that has vanished takes room as long as an older one is carried on."""
    table = Table(late="carry", min_clients=2, rounds=5)
    tasks = table.tasks(0, 1, 2, 3)
    oldest, *others, newest = sorted(range(4), key=tasks.__getitem__)
    table.lose(newest)
    for client in others:
        table.contribute(client, tasks[client])
    table.pass_time(61.0)
    assert table.rounds.version == 1
    orders = [order for _, order in table.orders if order.version == 1]
    assert {order.floor for order in orders} == {tasks[oldest]}
    assert tasks[newest] in {task for order in orders for task, weight, *_ in order.entries if weight == 0}


def test_an_abandoned_attempt_is_abandoned_once() -> None:
    table = Table()
    tasks = table.tasks(0, 1, 2, 3)
    for client in (0, 1, 2):
        table.contribute(client, tasks[client])
    table.lose_server(1)
    table.bring_back(1)
    table.pass_time(3.0)
    assert table.rounds.abandoned == 1 and {server.attempt for server in table.servers.values()} == {2}
    assert table.refused == {"abandoned": 3}
    assert table.submit(0, tasks[0]) == "abandoned"


def test_what_a_lost_server_had_of_a_client_that_is_gone_is_gone() -> None:
    table = Table(algorithm="fedbuff:3")
    first, second = (*table.tasks(0), *table.tasks(1))
    for client, task in enumerate((first, second)):
        table.upload(task, servers=[0])
        table.submit(client, task)
    table.lose(0)
    table.lose_server(0)
    assert table.verdict(1) == "resume" and table.refused == {"vanished": 1}
    assert table.rounds.status()["active"] == 1


def test_a_server_lost_while_it_publishes_is_waited_for_and_nothing_is_abandoned() -> None:
    table = Table(rounds=1)
    tasks = table.tasks(0, 1, 2, 3)
    table.upload(tasks[0])
    for client in (0, 1, 2):
        table.contribute(client, tasks[client])
    table.deaf = {0, 1}
    table.contribute(3, tasks[3])
    table.deaf = set()
    table.rounds._contributions.ledger.progress[1].at = -1e9
    for rank in (0, 1):  # both are told to prepare, and only one hears that it is to publish
        server = table.servers[rank]
        server.phase, server.folded = "prepared", 4
    table.deaf = {1}
    table.say(1)
    table.say(0)
    assert table.rounds.phase == "publish" and table.servers[0].version == 1
    table.lose_server(1)
    assert table.rounds.phase == "publish" and not table.rounds.failure and table.rounds.abandoned == 0
    table.pass_time(30.0)
    table.deaf = set()
    table.bring_back(1, version=0)
    attempt = table.servers[0].attempt
    table.servers[1].attempt, table.servers[1].phase = attempt, "prepared"
    table.say(1)
    table.pass_time(2.0)
    assert table.rounds.version == 1 and table.rounds.phase == "done"


def test_a_server_that_kept_nothing_ends_the_job_when_it_goes_or_when_it_comes_back_without() -> None:
    table = Table()
    table._tell(table.rounds.server_status(RoundStatus(1, 0, 1, "collect", 0, False, ()), 0, 0.0))
    table.lose_server(0)
    assert "kept nothing on disk" in table.rounds.failure
    table = Table()
    table.lose_server(0)
    assert not table.rounds.failure
    table._tell(table.rounds.server_status(RoundStatus(1, 0, 0, "empty", 0, False, ()), 0, 0.0))
    assert "without its part of the model" in table.rounds.failure
    table = Table()
    table.bring_back(0, version=5)
    assert table.rounds.failure


def test_what_a_server_said_before_it_had_the_model_is_no_failure() -> None:
    table = Table(heard=False)
    table._tell(table.rounds.server_status(RoundStatus(1, 0, 0, "empty", 0, False, ()), 0, 0.0))
    assert not table.rounds.failure and table.rounds.durability.unheard == {0, 1}


@pytest.mark.parametrize("restarted", [False, True])
def test_a_server_that_goes_before_it_said_what_it_keeps_may_come_back_with_it(restarted: bool) -> None:
    table = Table(heard=False)
    table.lose_server(0)
    if restarted:
        table.restart()
    assert not table.rounds.failure and 0 in table.rounds.durability.unheard
    table.bring_back(0)
    table.say(1)
    assert not table.rounds.failure and not table.rounds.durability.unheard
    tasks = table.tasks(0, 1, 2, 3)
    for client, task in enumerate(tasks):
        table.contribute(client, task)
    assert table.rounds.version == 1


@pytest.mark.parametrize("restarted", [False, True])
def test_a_server_that_goes_before_it_said_what_it_keeps_and_comes_back_with_nothing_ends_the_job(
    restarted: bool,
) -> None:
    table = Table(heard=False)
    table.lose_server(0)
    if restarted:
        table.restart()
    table._tell(table.rounds.server_status(RoundStatus(7, 0, 0, "empty", 0, True, ()), 0, 0.0))
    assert "server 0 has come back without its part of the model" in table.rounds.failure


def test_a_server_that_had_prepared_and_comes_back_without_ends_the_job() -> None:
    table = Table()
    rounds = table.rounds
    rounds.phase = rounds._contributions.ledger.phase = "publish"
    table._tell(rounds.server_status(RoundStatus(1, 0, 1, "broken", 0, True, ()), 0, 0.0))
    assert "had prepared for round 0" in rounds.failure


def test_contributions_to_tasks_that_do_not_exist_are_dropped_and_their_numbers_left_out() -> None:
    table = Table()
    for task in (3, 10**15):
        for rank in (0, 1):
            table.upload(task, servers=[rank])
            table.servers[rank].staged.clear()  # from here on it says that they are late
    dropped = {task for _, order in table.orders for task, weight, *_ in order.entries if weight == 0}
    assert dropped == {3, 10**15}
    assert min(table.tasks(0, 1, 2, 3)) > 3


def test_a_restart_between_any_two_steps_changes_no_verdict_and_no_round() -> None:
    def play(restarts: bool) -> tuple[object, ...]:
        table = Table(rounds=2, min_clients=2)

        def between() -> None:
            if restarts:
                table.restart()
                for rank in table.servers:
                    table.say(rank)

        verdicts = []
        for version in range(2):
            tasks = []
            for client in range(4):
                [answer] = table.poll(client)
                tasks.append(answer)
            tasks = [answer or table.answer(client) for client, answer in enumerate(tasks)]
            numbers = [answer.task for answer in tasks]
            for client, task in enumerate(numbers):
                between()
                table.upload(task)
                between()
                verdicts.append(table.submit(client, task, version=version))
            verdicts += [table.submit(client, task) for client, task in enumerate(numbers)]
            between()
        rows = [{key: row[key] for key in ("clients", "accepted", "refused")} for row in table.rounds.history]
        return verdicts[4:8], verdicts[12:], rows, table.rounds.phase, table.refused

    assert play(True) == play(False)


def test_a_restarted_scheduler_gives_the_round_its_whole_time_and_asks_for_what_it_does_not_know() -> None:
    table = Table(min_clients=4)
    tasks = table.tasks(0, 1, 2, 3)
    table.contribute(0, tasks[0])
    table.pass_time(50.0)
    table.restart()
    table.pass_time(50.0)
    assert table.rounds.abandoned == 0 and table.rounds.phase == "collect"
    for rank in table.servers:
        table.say(rank)
    for client in (1, 2, 3):
        table.contribute(client, tasks[client])
    assert table.rounds.version == 1
