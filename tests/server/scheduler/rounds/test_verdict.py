"""Promises of the verdict: every reason has its case, and nobody's word counts for more than the policy lets it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ps.aggregators import AGGREGATORS
from ps.algorithms import ALGORITHMS
from ps.config.federated import local_optimizer
from ps.optim import OPTIMIZERS
from ps.server.scheduler.rounds.task import Task
from ps.server.scheduler.rounds.typical import Typical
from ps.server.scheduler.rounds.verdict import AdmissionPolicy, Verdict, judge
from support.delta_parts import job_of, task_of


def typical_of(norm: float = 5.0, examples: float = 10.0, steps: int = 4) -> Typical:
    typical = Typical()
    for _ in range(3):
        typical.see(examples, steps)
        typical.measure(norm, examples * norm)
    return typical


def judged(task: Task, version: int = 0, typical: Typical | None = None, **settings: Any) -> Verdict:
    job = job_of(**settings)
    algorithm = ALGORITHMS.parse(job.algorithm).build()
    aggregator = AGGREGATORS.parse(job.aggregator if job.aggregator != "auto" else algorithm.aggregator).build()
    local = OPTIMIZERS.parse(local_optimizer(job, algorithm)).build()
    return judge(task, version, AdmissionPolicy(job, algorithm, aggregator, local), typical or typical_of())


def test_an_honest_contribution_counts_by_its_examples() -> None:
    assert judged(task_of()) == Verdict("accepted", 10.0, 1.0, 1.0, 4)


@pytest.mark.parametrize("wrong", ["nan", "malformed"])
def test_what_a_server_found_wrong_is_the_reason(wrong: str) -> None:
    assert judged(task_of(wrong=wrong)) == Verdict(wrong)


@pytest.mark.parametrize(
    "claim",
    [
        {"examples": 0.0},
        {"examples": -1.0},
        {"examples": math.inf},
        {"examples": math.nan},
        {"examples": 1e300},
        {"examples": 1e-300},
        {"steps": 0},
        {"steps": -2},
        {"steps": 1 << 62},
    ],
)
def test_claims_that_cannot_be_true_are_refused(claim: dict[str, Any]) -> None:
    assert judged(task_of(**claim)) == Verdict("claim")


def test_a_norm_out_of_all_proportion_is_refused_and_one_within_the_policy_is_not() -> None:
    assert judged(task_of(shares={0: 501.0**2})).verdict == "norm"
    assert judged(task_of(shares={0: 499.0**2})).verdict == "accepted"
    assert judged(task_of(shares={0: 499.0**2}), max_delta_norm=2.0).verdict == "norm"


def test_an_infinite_norm_is_refused_although_nothing_is_known() -> None:
    assert judged(task_of(shares={0: math.inf}), typical=Typical()).verdict == "norm"


def test_a_norm_says_nothing_while_the_typical_one_is_zero() -> None:
    assert judged(task_of(), typical=typical_of(norm=0.0)).verdict == "accepted"


def test_a_delta_for_a_round_that_closed_is_late_unless_the_policy_carries_it() -> None:
    late = task_of(round=2, version=2)
    assert judged(late, version=3).verdict == "late"
    assert judged(late, version=3, late="carry") == Verdict("accepted", 10.0, 1.0, 1.0, 4)
    assert judged(late, version=5, late="discount").scale == pytest.approx(1 / math.sqrt(4))
    assert judged(late, version=13, late="carry", max_staleness=10).verdict == "stale"


@pytest.mark.parametrize(("claimed", "staleness"), [(0, 4), (3, 1), (99, 0)])
def test_staleness_counts_from_the_version_trained_from_which_cannot_be_of_the_future(
    claimed: int, staleness: int
) -> None:
    found = judged(task_of(version=claimed), version=4, algorithm="fedbuff:3")
    assert found.scale == pytest.approx(1 / math.sqrt(1 + staleness))


def test_a_client_is_believed_so_many_times_the_typical_examples_and_steps() -> None:
    greedy = task_of(examples=1e12)
    assert judged(greedy, max_influence=100.0) == Verdict("accepted", 100.0, 1.0, 1.0, 4, capped=True)
    assert judged(greedy, max_influence=100.0, max_client_weight=3.0).weight == 30.0
    tireless = judged(task_of(steps=10**11), algorithm="fednova")
    assert (tireless.steps, tireless.scale) == (24, 1e-11)


@pytest.mark.parametrize("more", [{"examples": 1e12}, {"shares": {0: 75.0**2}}, {"examples": 1e3, "shares": {0: 1e4}}])
def test_weight_times_norm_is_bounded_whatever_is_claimed_and_sent(more: dict[str, Any]) -> None:
    """Of ten, nine outweigh it: 3 times what is typical, 10 examples and a norm of 5; of few seen twice that."""
    task = task_of(**more)
    found = judged(task)
    assert found.verdict == "accepted" and found.capped
    assert found.weight * math.sqrt(task.norm_squared) == pytest.approx(2 * 3 * 10.0 * 5.0)
    equal = judged(task, aggregator="mean", typical=typical_of(examples=1.0))
    assert equal.weight * math.sqrt(task.norm_squared) <= 2 * 3 * 5.0 * (1 + 1e-12)


def test_a_rule_with_a_bound_of_its_own_and_rules_that_hold_all_weigh_as_they_like() -> None:
    long = task_of(shares={0: 400.0**2})
    assert judged(long, aggregator="clip:times=1").weight == judged(long, aggregator="median").weight == 1.0


def test_who_claims_a_single_step_is_believed_a_tenth_of_the_usual_and_judged_by_what_counts() -> None:
    """FedNova divides by steps: or one of ten who says that it took one step of a hundred weighs a hundred times."""
    typical = typical_of(norm=5.0 / 100, steps=100)
    assert judged(task_of(steps=1), algorithm="fednova", typical=typical).scale == pytest.approx(1 / 10)
    honest, lazy = (judged(task_of(steps=n), algorithm="fednova", typical=typical) for n in (100, 1))
    assert honest.weight == 10.0 and honest.steps == 100
    assert lazy.weight * lazy.scale <= 2 * 3 * honest.weight * honest.scale * (1 + 1e-12) and lazy.steps == 10
    clipped = judged(task_of(steps=1), algorithm="fednova", aggregator="clip:times=1", typical=typical)
    assert clipped.scale * clipped.bound * 5.0 == pytest.approx(typical.norm)
    assert judged(task_of(steps=1), algorithm="fednova", max_delta_norm=9.0, typical=typical).verdict == "norm"


def test_who_sends_nothing_and_claims_much_lengthens_fednovas_rounds_by_no_more_than_an_eighth() -> None:
    typical = Typical()
    for _ in range(100):
        typical.see(10.0, 4)
        typical.measure(5.0, 50.0)
    factor = ALGORITHMS.parse("fednova").build().factor
    for examples in (1.0, 10.0, 30.0, 1e12):
        idle = judged(task_of(examples=examples, steps=10**11, shares={0: 0.0}), algorithm="fednova", typical=typical)
        weights, steps = [10.0] * 9 + [idle.weight], [4.0] * 9 + [idle.steps]
        longer = factor(weights, steps) / 4.0 * 90.0 / sum(weights)
        assert longer <= 1.125 + 1e-9, (examples, longer)
    assert judged(task_of(steps=10), algorithm="fednova", typical=typical).steps == 10


def test_fednova_divides_by_effective_steps_of_the_clients_optimizer() -> None:
    momentum = judged(task_of(steps=4), algorithm="fednova", optimizer="momentum:momentum=0.5")
    assert momentum.scale == pytest.approx(1 / ((4 - 0.5 * (1 - 0.5**4) / 0.5) / 0.5))


def test_equal_weighting_ignores_what_is_claimed() -> None:
    assert judged(task_of(examples=1e12), aggregator="mean") == Verdict("accepted", 1.0, 1.0, 1.0, 4)
    assert judged(task_of(examples=1e12), aggregator="median").weight == 1.0


def test_clipping_bounds_a_delta_by_the_typical_norm() -> None:
    assert judged(task_of(shares={0: 400.0}), aggregator="clip:times=1").bound == pytest.approx(0.25)
    assert judged(task_of(), aggregator="clip:times=1").bound == 1.0
