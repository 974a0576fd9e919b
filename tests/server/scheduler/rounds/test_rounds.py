"""Promises of the rounds: they close, whoever is missing, and everybody hears what became of what he did."""

from __future__ import annotations

import pytest

from ps.errors import BadMessage
from ps.protocol.messages import Assign, Distances, Finished, Wait
from support.table import Table, kinds


def test_a_round_closes_when_all_have_contributed_and_the_next_begins() -> None:
    table = Table(rounds=2)
    tasks = table.tasks(0, 1, 2, 3)
    assert [table.contribute(client, task) for client, task in enumerate(tasks)] == [None, None, "accepted", "accepted"]
    assert table.verdict(0) == table.verdict(1) == "accepted"
    assert table.rounds.version == 1 and table.rounds.history[0]["clients"] == [0, 1, 2, 3]
    for client, task in enumerate(table.tasks(0, 1, 2, 3)):
        table.contribute(client, task, version=1)
    assert table.rounds.phase == "done"
    assert kinds(table.poll(2)) == ["F"] and table.rounds.status()["round"] == 2


@pytest.mark.parametrize(("every", "asked"), [(0, [False, False, True]), (2, [True, False, True])])
def test_the_last_round_is_measured_whatever_the_interval(every: int, asked: list[bool]) -> None:
    table = Table(workers=2, rounds=3, eval_every=every)
    found = []
    for version in range(3):
        answers = [answer or table.answer(client) for client, answer in enumerate(table.poll(0, 1))]
        found.append(answers[0].evaluate)
        for client, answer in enumerate(answers):
            table.contribute(client, answer.task, version=version)
    assert found == asked


def test_those_who_come_late_to_a_selection_are_waited_for_a_moment_and_no_longer() -> None:
    table = Table()
    assert kinds(table.poll(0, 1)) == ["-", "-"]
    assert table.rounds.wake(0.0) == 1.0
    table.pass_time(0.75)
    assert table.rounds.phase == "select"
    table.pass_time(0.25)
    assert isinstance(table.answer(0), Assign) and isinstance(table.answer(1), Assign)
    assert kinds(table.poll(2)) == ["A"], "it takes the place of one that is missing"


def test_no_selection_is_made_below_the_quorum() -> None:
    table = Table(min_clients=3)
    table.poll(0, 1)
    table.pass_time(30.0)
    assert table.rounds.phase == "select"
    assert kinds(table.poll(2)) == ["A"]


def test_more_are_selected_than_are_needed_and_the_others_come_back_later() -> None:
    table = Table(workers=10, clients_per_round=4, over_select=1.5)
    answers = table.poll(*range(10))
    answers = [answer or table.answer(client) for client, answer in enumerate(answers)]
    assert sorted(kinds(answers)) == ["A"] * 6 + ["W"] * 4
    assert all(answer.seconds > 0 for answer in answers if isinstance(answer, Wait))


def test_who_was_selected_beyond_what_is_needed_is_spare_and_neither_late_nor_refused() -> None:
    table = Table(workers=4, clients_per_round=2, over_select=2.0, rounds=2, late="drop")
    tasks = table.tasks(0, 1, 2, 3)
    table.upload(tasks[3])
    for client in (0, 1, 2):
        table.contribute(client, tasks[client])
    assert table.rounds.version == 1
    assert table.submit(3, tasks[3]) == "spare"
    status = table.rounds.status()
    assert (status["refused"], status["spare"]) == ({}, 2)
    assert (status["history"][0]["refused"], status["history"][0]["spare"]) == ({}, 2)


def test_who_asks_while_a_round_is_closing_is_not_sent_away() -> None:
    table = Table(rounds=2)
    table.rounds._deadlines.rounds.append(100.0)
    tasks = table.tasks(0, 1, 2, 3)
    table.deaf = {1}
    for client, task in enumerate(tasks):
        table.contribute(client, task)
    assert table.rounds.phase == "close" and kinds(table.poll(0, 1)) == ["-", "-"]


def test_clients_are_told_to_come_back_after_what_rounds_need_and_not_after_what_they_waited() -> None:
    table = Table(workers=3, rounds=9, min_clients=3)
    for round in range(3):
        table.pass_time(20.0)  # all are away
        tasks = table.tasks(0, 1, 2)
        table.pass_time(1.0)
        for client, task in enumerate(tasks):
            table.contribute(client, task, version=round)
        assert table.rounds.version == round + 1
    assert list(table.rounds._deadlines.rounds) == [1.0] * 3, "and not the 21 s from one version to the next"


def test_the_attempt_is_that_at_the_round_under_way() -> None:
    table = Table(rounds=3)
    for round in range(2):
        table.tasks(0, 1, 2, 3)
        table.lose_server(1)
        table.bring_back(1)
        assert table.rounds.status()["attempt"] == 2
        for client, task in enumerate(table.tasks(0, 1, 2, 3)):
            table.contribute(client, task, version=round)
        assert table.rounds.version == round + 1 and table.rounds.status()["attempt"] == 1
    assert [row["attempt"] for row in table.rounds.history] == [2, 2]


def test_a_round_closes_with_the_quorum_at_its_deadline_and_the_others_are_late() -> None:
    table = Table(min_clients=2)
    tasks = table.tasks(0, 1, 2, 3)
    table.contribute(0, tasks[0])
    table.contribute(1, tasks[1])
    table.pass_time(59.0)
    assert table.rounds.version == 0
    table.pass_time(2.0)
    assert table.rounds.version == 1 and table.verdict(0) == "accepted"
    assert table.refused == {"unfinished": 2}
    assert table.contribute(2, tasks[2]) == "unfinished"


def test_the_first_are_judged_at_the_deadline_although_others_are_missing() -> None:
    """With less than three known nobody can be compared with anybody, but a quorum is a quorum."""
    table = Table(min_clients=1)
    task, *_ = table.tasks(0, 1, 2, 3)
    assert table.contribute(0, task) is None
    table.pass_time(61.0)
    assert table.verdict(0) == "accepted" and table.rounds.version == 1 and table.rounds.abandoned == 0


def test_a_round_without_its_quorum_is_abandoned_at_its_deadline_on_all_servers_alike() -> None:
    table = Table(min_clients=3)
    tasks = table.tasks(0, 1, 2, 3)
    table.contribute(0, tasks[0])
    table.pass_time(61.0)
    assert (table.rounds.version, table.rounds.abandoned, table.rounds.phase) == (0, 1, "select")
    assert {server.attempt for server in table.servers.values()} == {2}
    assert [server.staged for server in table.servers.values()] == [{}, {}]
    for client, task in enumerate(table.tasks(0, 1, 2, 3)):
        table.contribute(client, task)
    assert table.rounds.version == 1


def test_a_round_never_closes_with_fewer_than_its_quorum_even_if_fewer_clients_are_left() -> None:
    table = Table(min_clients=3)
    tasks = table.tasks(0, 1, 2, 3)
    table.lose(2)
    table.lose(3)
    table.contribute(0, tasks[0])
    table.contribute(1, tasks[1])
    wake = table.rounds.wake(table.now)
    assert wake is not None and table.now < wake <= table.now + 5.0, "the lost may come back, but not for ever"
    table.pass_time(6.0)
    assert table.rounds.version == 0 and table.rounds.abandoned == 1
    table.live |= {2}
    for client, task in enumerate(table.tasks(0, 1, 2)):
        table.contribute(client, task)
    assert table.rounds.version == 1


def test_a_job_that_never_gets_on_is_given_up() -> None:
    table = Table(min_clients=1)
    for _ in range(100):
        table.task(0)
        table.pass_time(61.0, step=5.0)
    assert "abandoned 100 times" in table.rounds.failure


# What clients hear


def test_a_repeated_submission_hears_the_same_whatever_happened_meanwhile() -> None:
    table = Table(rounds=9)
    tasks = table.tasks(0, 1, 2, 3)
    for client, task in enumerate(tasks):
        table.contribute(client, task)
    assert table.rounds.version == 1
    for client, task in enumerate(table.tasks(1, 2, 3), 1):
        table.contribute(client, task, version=1)
    table.pass_time(61.0)
    assert table.rounds.version == 2
    assert table.submit(0, tasks[0]) == "accepted"
    assert table.refused == {}


def test_to_submit_for_another_or_for_nothing_counts_for_nothing() -> None:
    table = Table()
    tasks = table.tasks(0, 1, 2, 3)
    table.upload(tasks[0])
    assert table.submit(1, tasks[0]) == "late" and table.submit(1, 999) == "late"
    assert table.refused == {"late": 1, "unknown": 1}
    assert table.rounds.status()["accepted"] == 0


def test_a_client_that_asks_again_gets_the_same_task() -> None:
    table = Table()
    tasks = table.tasks(0, 1, 2, 3)
    table.now += 5.0
    [again] = table.poll(2)
    assert again.task == tasks[2] and again.seconds == pytest.approx(55.0)


def test_who_declines_or_vanishes_is_replaced_and_servers_drop_what_was_declined() -> None:
    table = Table(workers=6, clients_per_round=4, over_select=1.0, seed=3)
    answers = table.poll(*range(6))
    answers = [answer or table.answer(client) for client, answer in enumerate(answers)]
    taken = {client: answer.task for client, answer in enumerate(answers) if isinstance(answer, Assign)}
    (decliner, declined), (vanisher, _), *_ = taken.items()
    table.decline(decliner, declined)
    table.lose(vanisher)
    entries = [task for _, order in table.orders for task, weight, *_ in order.entries if weight == 0]
    assert set(entries) == {declined}, "what vanished may come back"
    spare = [client for client in range(6) if client not in taken]
    assert kinds(table.poll(*spare)) == ["A", "A"]
    assert table.refused == {"declined": 1, "vanished": 1}
    assert kinds(table.poll(decliner)) == ["W"], "not twice in a round"


def test_a_client_that_vanished_goes_on_with_its_task_while_the_round_is_open() -> None:
    table = Table()
    tasks = table.tasks(0, 1, 2, 3)
    table.upload(tasks[3], servers=[0])
    table.lose(3)
    assert table.refused == {"vanished": 1}
    again = table.poll(3)[0]
    assert isinstance(again, Assign) and again.task == tasks[3]
    assert table.refused == {}
    for client in (3, 0, 1, 2):
        table.contribute(client, tasks[client])
    assert 3 in table.rounds.history[0]["clients"]


def test_a_client_that_vanishes_between_two_chunks_lets_the_round_close_without_it() -> None:
    table = Table()
    tasks = table.tasks(0, 1, 2, 3)
    for client in (0, 1, 2):
        table.contribute(client, tasks[client])
    table.upload(tasks[3], servers=[0])
    table.lose(3)
    assert table.rounds.version == 1 and table.rounds.history[0]["refused"] == {"vanished": 1}


def test_the_first_are_judged_when_those_they_waited_for_are_gone() -> None:
    table = Table(workers=2, min_clients=1)
    first, _ = table.tasks(0, 1)
    assert table.contribute(0, first) is None
    table.lose(1)
    assert table.verdict(0) == "accepted" and table.rounds.version == 1


def test_what_was_submitted_counts_though_its_client_is_gone() -> None:
    table = Table()
    tasks = table.tasks(0, 1, 2, 3)
    table.contribute(0, tasks[0])
    table.lose(0)
    for client in (1, 2):
        table.contribute(client, tasks[client])
    assert table.rounds.history[0]["clients"] == [0, 1, 2], "as many as there are clients left"


def test_every_refusal_is_counted_by_reason_and_the_round_closes_without_it() -> None:
    table = Table(workers=8, min_clients=3)
    tasks = table.tasks(*range(8))
    for client in range(3):
        table.contribute(client, tasks[client])
    table.upload(tasks[3], wrong="nan")
    table.upload(tasks[4], wrong="malformed")
    table.upload(tasks[5], squares=1e12)
    table.upload(tasks[6])
    verdicts = [table.submit(client, tasks[client]) for client in (3, 4, 5)]
    verdicts.append(table.submit(6, tasks[6], examples=-1.0))
    assert verdicts == ["nan", "malformed", "norm", "claim"]
    assert table.contribute(7, tasks[7], examples=1e12) == "accepted"
    assert table.rounds.version == 1
    assert table.rounds.history[0]["refused"] == dict.fromkeys(verdicts, 1)
    assert table.rounds.status()["capped"] == 1


# Late policies, asynchronous rounds


@pytest.mark.parametrize("late", ["carry", "discount"])
def test_a_late_delta_counts_in_the_next_round_unless_it_is_dropped(late: str) -> None:
    table = Table(late=late, rounds=5, min_clients=3)
    tasks = table.tasks(0, 1, 2, 3)
    for client in (0, 1, 2):
        table.contribute(client, tasks[client])
    table.pass_time(61.0)
    assert table.rounds.version == 1 and table.refused == {}
    new = table.tasks(0, 1, 2)
    assert table.contribute(3, tasks[3], version=0) == "accepted"
    for client in (0, 1, 2):
        table.contribute(client, new[client], version=1)
    assert table.rounds.history[1]["clients"] == [0, 1, 2, 3]
    scales = {task: scale for _, order in table.orders for task, _, scale, _ in order.entries}
    assert scales[tasks[3]] == pytest.approx(1.0 if late == "carry" else 0.5**0.5)


def test_a_late_delta_is_given_up_when_it_is_too_old() -> None:
    table = Table(late="carry", rounds=9, min_clients=3, max_staleness=2)
    table.tasks(0, 1, 2, 3)
    for _ in range(3):
        for client in (0, 1, 2):
            [answer] = table.poll(client)
            task = (answer or table.answer(client) or table.poll(client)[0]).task
            table.contribute(client, task, version=table.rounds.version)
        table.pass_time(61.0)
        if table.rounds.version < 3:
            table.poll(0, 1, 2)
            table.pass_time(1.5)
    assert table.rounds.version == 3 and table.refused == {"stale": 1}


def test_asynchronous_clients_are_never_without_a_task_and_versions_come_by_number() -> None:
    table = Table(algorithm="fedbuff:2", rounds=3)
    tasks = dict(enumerate(table.tasks(0, 1, 2, 3)))
    for turn in range(12):
        client = turn % 3
        if table.rounds.phase == "done":
            break
        table.contribute(client, tasks[client], version=table.rounds.version)
        [answer] = table.poll(client)
        if isinstance(answer, Assign):
            tasks[client] = answer.task
    assert table.rounds.version == 3 and [row["accepted"] for row in table.rounds.history] == [2, 2, 2]
    assert isinstance(table.poll(3)[0], Finished)


def test_every_client_of_a_job_that_wants_all_is_selected_each_round() -> None:
    table = Table(algorithm="diloco", rounds=3, clients_per_round=2, over_select=1.0)
    assert len(set(table.tasks(0, 1, 2, 3))) == 4


def test_krum_waits_for_the_distances_of_all_servers() -> None:
    table = Table(workers=5, aggregator="krum:f=1", min_clients=5, rounds=1)
    for client, task in enumerate(table.tasks(*range(5))):
        table.contribute(client, task)
    places = (0.0, 3.0, 4.0, 5.5, 9.0)
    matrix = [[abs(a - b) ** 2 for b in places] for a in places]
    assert table.rounds.phase == "close" and table.rounds.version == 0
    table.measure(0, matrix)
    with pytest.raises(BadMessage):
        table._tell(table.rounds.distances(Distances(2, 1, 5), 1, b"", 0.0))
    assert table.rounds.version == 0
    table.measure(1, matrix)
    assert table.rounds.version == 1
    weights = [order.weights for _, order in table.orders if order.phase == "publish"]
    assert weights[-1] == (0.0, 0.0, 1.0, 0.0, 0.0)
