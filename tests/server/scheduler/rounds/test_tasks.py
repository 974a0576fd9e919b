"""Promises of the table of tasks: what is over leaves it, and its verdict is known as long as somebody may ask."""

from __future__ import annotations

import json

from ps.protocol.messages import Submit
from ps.server.scheduler.rounds.task import Task
from ps.server.scheduler.rounds.tasks import MOST_VERDICTS, Tasks


def tasks_of(count: int) -> tuple[Tasks, list[Task]]:
    tasks = Tasks(frozenset({0, 1}))
    return tasks, [tasks.open(100 + rank, rank, 0, 0.0, False) for rank in range(count)]


def submit(tasks: Tasks, task: Task, now: float = 1.0) -> None:
    tasks.submit(task, Submit(5, task.member, task.number, 0, 8.0, 3, {"loss": 0.5, "odd": "x"}), now)


def test_a_contribution_is_ready_when_it_is_submitted_and_all_servers_have_it_in_any_order() -> None:
    tasks, (first, second) = tasks_of(2)
    submit(tasks, first)
    tasks.share(first, 0, 4.0, "")
    assert tasks.short == [first] and not tasks.ready
    tasks.share(first, 1, 5.0, "")
    tasks.share(second, 1, 1.0, "nan")
    tasks.share(second, 0, 1.0, "")
    assert tasks.ready == {first.number} and tasks.short == [] and first.norm_squared == 9.0
    submit(tasks, second)
    assert tasks.ready == {1, 2} and second.wrong == "nan" and second.report == {"loss": 0.5}


def test_one_that_is_reopened_has_to_be_submitted_again() -> None:
    tasks, [task] = tasks_of(1)
    submit(tasks, task)
    tasks.share(task, 0, 1.0, "")
    tasks.share(task, 1, 1.0, "")
    tasks.reopen(task)
    assert not tasks.ready and task.active and tasks.active == {1}
    submit(tasks, task)
    assert tasks.ready == {1}


def test_verdicts_are_known_to_those_whose_they_are() -> None:
    tasks, (first, second, third) = tasks_of(3)
    tasks.accept(first)
    tasks.accept(second)
    tasks.refuse(third, "norm")
    tasks.forget([first, third])
    tasks.forget([second], "abandoned")
    assert [tasks.verdict(task.number, task.rank) for task in (first, second, third)] == [
        "accepted",
        "abandoned",
        "norm",
    ]
    assert tasks.verdict(first.number, 1) is None and tasks.verdict(99, 0) is None


def test_refusals_are_counted_by_reason_in_all_and_of_the_round() -> None:
    tasks, three = tasks_of(3)
    for task, why in zip(three, ("nan", "late", "nan"), strict=True):
        tasks.refuse(task, why)
    assert tasks.refused == tasks.of_round == {"nan": 2, "late": 1} and not tasks.active


def test_the_verdict_on_a_task_can_be_asked_for_until_the_next_one_is_over() -> None:
    tasks, (first, _, _) = tasks_of(3)
    tasks.accept(first)
    tasks.forget([first])
    second = tasks.open(100, first.rank, 1, 0.0, False)
    assert tasks.verdict(first.number, first.rank) == "accepted"
    tasks.refuse(second, "late")
    tasks.forget([second])
    assert tasks.verdict(first.number, first.rank) is None and tasks.verdict(second.number, first.rank) == "late"


def test_the_floor_is_the_lowest_that_is_left() -> None:
    tasks, (first, second, third) = tasks_of(3)
    assert tasks.floor == 1
    tasks.refuse(first, "late")
    tasks.forget([first])
    assert tasks.floor == 2
    for task in (second, third):
        tasks.accept(task)
    tasks.forget([second, third])
    assert tasks.floor == tasks.next == 4


def test_memory_does_not_grow_with_the_clients_that_ever_were() -> None:
    tasks = Tasks(frozenset({0}))
    for rank in range(MOST_VERDICTS + 100):
        task = tasks.open(rank, rank, 0, 0.0, False)
        tasks.refuse(task, "late")
        tasks.forget([task])
    assert len(tasks._verdicts) == MOST_VERDICTS and not tasks._tasks and not tasks._by_rank


def test_it_outlives_a_restart_and_the_servers_say_the_rest_again() -> None:
    tasks, (first, second, third) = tasks_of(3)
    submit(tasks, first)
    tasks.share(first, 0, 4.0, "")
    tasks.accept(second)
    tasks.forget([second])
    again = Tasks(frozenset({0, 1}))
    again.load(json.loads(json.dumps(tasks.dump())), 50.0)
    assert again.dump() == tasks.dump()
    assert again.active == {1, 3} and again.next == 4 and again.verdict(2, 1) == "accepted"
    same = again.active_of(0)
    assert same is not None and (same.began, same.shares, same.examples) == (50.0, {}, 8.0)
    tasks.share(first, 1, 4.0, "")
    for server in (0, 1):
        again.share(same, server, 4.0, "")
    assert again.ready == tasks.ready == {1}
    assert again.active_of(2) is not None and third.active
