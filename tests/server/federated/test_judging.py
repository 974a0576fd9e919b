"""Promises of judging: nobody is judged by a standard made of himself alone while others may still come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from delta_parts import job_of, task_of

from ps.aggregators import AGGREGATORS
from ps.algorithms import ALGORITHMS
from ps.server.federated.judging import Judging


def judging_of(**settings: Any) -> Judging:
    job = job_of(**settings)
    return Judging(job, ALGORITHMS.parse(job.algorithm).build(), AGGREGATORS.parse("weighted").build())


def test_the_first_wait_until_three_are_there() -> None:
    judging = judging_of()
    assert not judging.possible([task_of(1)], 0, more=True)
    assert not judging.possible([task_of(1), task_of(2)], 0, more=True)
    assert judging.possible([task_of(1), task_of(2), task_of(3)], 0, more=True)


def test_they_are_judged_when_nothing_more_will_come() -> None:
    assert judging_of().possible([task_of(1)], 0, more=False)


def test_what_is_wrong_or_cannot_be_true_does_not_count_towards_the_three() -> None:
    judging = judging_of()
    assert not judging.possible([task_of(1), task_of(2), task_of(3, wrong="nan")], 0, more=True)


def test_an_attacker_who_comes_first_is_held_against_the_others() -> None:
    judging = judging_of()
    tasks = [task_of(1, shares={0: 1e12}), task_of(2), task_of(3)]
    assert judging.possible(tasks, 0, more=True)
    assert [judging.decide(task, 0).verdict for task in tasks] == ["norm", "accepted", "accepted"]


def test_a_greedy_client_is_counted_once_and_outlives_a_restart() -> None:
    judging = judging_of()
    tasks = [task_of(1, examples=1e12), task_of(2), task_of(3)]
    judging.possible(tasks, 0, more=True)
    weights = [judging.decide(task, 0).weight for task in tasks]
    assert weights == [60.0, 10.0, 10.0] and judging.capped == 1
    again = judging_of()
    again.load(json.loads(json.dumps(judging.dump())))
    assert again.dump() == judging.dump() and again.capped == 1
    assert again.possible([task_of(4)], 0, more=True), "what is usual is known"


def test_no_contribution_is_seen_twice() -> None:
    judging = judging_of()
    task = task_of(1)
    for _ in range(5):
        judging.possible([task], 0, more=False)
        judging.decide(task, 0)
    assert not judging.possible([task_of(2)], 0, more=True)


def test_who_sets_an_optimizer_that_the_algorithm_replaces_hears_of_it(caplog: pytest.LogCaptureFixture) -> None:
    judging_of(algorithm="diloco")
    judging_of(algorithm="diloco", optimizer="adam:lr=0.1", local_optimizer="sgd:lr=0.1")
    judging_of(algorithm="fedavg", optimizer="adam:lr=0.1")
    assert not caplog.messages
    judging_of(algorithm="diloco", optimizer="adam:lr=0.1")
    [line] = caplog.messages
    assert "adamw:lr=0.001,weight_decay=0.1: optimizer = adam:lr=0.1" in line and "--local-optimizer" in line
