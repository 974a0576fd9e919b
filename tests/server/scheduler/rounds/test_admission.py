"""Promises of admission: nobody is judged by a standard made of himself alone while others may still come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ps.aggregators import AGGREGATORS
from ps.algorithms import ALGORITHMS
from ps.server.scheduler.rounds.admission import Admission
from support.delta_parts import job_of, task_of


def admission_of(**settings: Any) -> Admission:
    job = job_of(**settings)
    return Admission(job, ALGORITHMS.parse(job.algorithm).build(), AGGREGATORS.parse("weighted").build())


def test_the_first_wait_until_three_are_there() -> None:
    admission = admission_of()
    assert not admission.possible([task_of(1)], 0, more=True)
    assert not admission.possible([task_of(1), task_of(2)], 0, more=True)
    assert admission.possible([task_of(1), task_of(2), task_of(3)], 0, more=True)


def test_they_are_judged_when_nothing_more_will_come() -> None:
    assert admission_of().possible([task_of(1)], 0, more=False)


def test_what_is_wrong_or_cannot_be_true_does_not_count_towards_the_three() -> None:
    admission = admission_of()
    assert not admission.possible([task_of(1), task_of(2), task_of(3, wrong="nan")], 0, more=True)


def test_an_attacker_who_comes_first_is_held_against_the_others() -> None:
    admission = admission_of()
    tasks = [task_of(1, shares={0: 1e12}), task_of(2), task_of(3)]
    assert admission.possible(tasks, 0, more=True)
    assert [admission.decide(task, 0).verdict for task in tasks] == ["norm", "accepted", "accepted"]


def test_a_greedy_client_is_counted_once_and_outlives_a_restart() -> None:
    admission = admission_of()
    tasks = [task_of(1, examples=1e12), task_of(2), task_of(3)]
    admission.possible(tasks, 0, more=True)
    weights = [admission.decide(task, 0).weight for task in tasks]
    assert weights == [60.0, 10.0, 10.0] and admission.capped == 1
    again = admission_of()
    again.load(json.loads(json.dumps(admission.dump())))
    assert again.dump() == admission.dump() and again.capped == 1
    assert again.possible([task_of(4)], 0, more=True), "what is typical is known"


def test_no_contribution_is_seen_twice() -> None:
    admission = admission_of()
    task = task_of(1)
    for _ in range(5):
        admission.possible([task], 0, more=False)
        admission.decide(task, 0)
    assert not admission.possible([task_of(2)], 0, more=True)


def test_who_sets_an_optimizer_that_the_algorithm_replaces_hears_of_it(caplog: pytest.LogCaptureFixture) -> None:
    admission_of(algorithm="diloco")
    admission_of(algorithm="diloco", optimizer="adam:lr=0.1", local_optimizer="sgd:lr=0.1")
    admission_of(algorithm="fedavg", optimizer="adam:lr=0.1")
    assert not caplog.messages
    admission_of(algorithm="diloco", optimizer="adam:lr=0.1")
    [line] = caplog.messages
    assert "adamw:lr=0.001,weight_decay=0.1: optimizer = adam:lr=0.1" in line and "--local-optimizer" in line
