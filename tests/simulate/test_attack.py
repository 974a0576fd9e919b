"""Promises of a federation with its defaults, scheduler and servers as they are: one client of ten cannot destroy what
the others have learnt, whatever it sends and claims."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import pytest

from ps.models import softmax
from ps.simulate.engine import Engine
from ps.simulate.in_process_cluster import InProcessCluster
from ps.simulate.local_work import LocalWork
from ps.simulate.task import TrainingResult, TrainingTask
from ps.simulate.traces import Drawn
from ps.simulate.trainer import Trainer
from ps.xp import HostArray
from support.federation import examples, first_weights, plan_of

CLIENTS, ATTACKER = 10, 3
DATA = examples(1200)
WORK = LocalWork(10, epochs=2)

Attack = Callable[[TrainingResult], TrainingResult]


class Attacked:
    """A trainer in this process, in which one client does to its results what ``attack`` says."""

    def __init__(self, trainer: Trainer, attack: Attack) -> None:
        self._fleet, self._attack = trainer, attack
        self._tasks: dict[int, TrainingTask] = {}
        self._results: dict[int, TrainingResult] = {}
        self._weights: dict[int, HostArray] = {}

    def publish(self, version: int, weights: HostArray) -> None:
        self._weights[version] = weights

    def give(self, task: TrainingTask, due: float) -> None:
        self._tasks[task.ticket] = task

    def take(self, ticket: int) -> TrainingResult:
        task = self._tasks[ticket]
        if ticket not in self._results:
            same = [other for other in self._tasks.values() if other.version == task.version]
            for result in chain.from_iterable(self._fleet.train(same, self._weights[task.version])):
                self._results[result.ticket] = result
        found = self._results.pop(ticket)
        return self._attack(found) if task.client == ATTACKER else found

    def settle(self, ticket: int, accepted: bool) -> None:
        del self._tasks[ticket]
        self._fleet.settle(ticket, accepted)


def accuracy(attack: Attack, rounds: int = 15, **job: Any) -> float:
    """Return how good the model is after some rounds of all ten."""
    settings = {"workers": CLIENTS, "clients_per_round": CLIENTS, "rounds": rounds, "optimizer": "sgd:lr=0.1", **job}
    plan = plan_of(work=WORK, **settings)
    found: list[HostArray] = []

    def published(version: int, now: float, weights: HostArray) -> bool:
        found[:] = [weights]
        return False

    trainer = Attacked(Trainer(plan, DATA), attack)
    cluster = InProcessCluster(
        {**settings, "mode": "federated", "start_timeout": 1e9}, plan.layout, first_weights(plan)
    )
    Engine(cluster, trainer, Drawn(), WORK, [100] * CLIENTS, published).run()
    params = plan.layout.of_kind("trainable").views(plan.layout.flat(found[0]))
    return float(softmax.accuracy(params, (DATA["x_test"], DATA["y_test"]), 1000))


def times(factor: float) -> Attack:
    """Return what multiplies a delta."""

    def attack(result: TrainingResult) -> TrainingResult:
        frames = tuple((frame.view(np.float32) * np.float32(factor)).view(np.uint8) for frame in result.frames)
        return result._replace(frames=frames)

    return attack


def claims(**what: Any) -> Attack:
    """Return what claims something else than is true of an honest delta."""
    return lambda result: result._replace(**what)


def honest(result: TrainingResult) -> TrainingResult:
    """Send what is true."""
    return result


def both(first: Attack, second: Attack) -> Attack:
    """Return one attack after the other."""
    return lambda result: second(first(result))


UNBOUNDED = {"max_influence": 1e9, "max_client_weight": 1e9, "max_delta_norm": 1e9}
DEADLY = [
    ("fedavg", times(-15)),
    ("fedavg", times(-99)),
    ("fedavg", both(times(-1), claims(examples=1e12))),
    ("fednova", both(times(-1), claims(steps=1))),
    ("fednova", both(times(0), claims(steps=10**6, examples=1e12))),
]
HARMLESS = [("fedavg", times(15)), ("fedavg", claims(examples=1e12)), ("fednova", claims(steps=1))]


@pytest.mark.parametrize(("algorithm", "attack"), [*DEADLY, *HARMLESS])
def test_one_of_ten_cannot_destroy_the_model(algorithm: str, attack: Attack) -> None:
    assert accuracy(attack, algorithm=algorithm) > 0.7


@pytest.mark.parametrize(("algorithm", "attack"), DEADLY)
def test_it_is_the_bounds_that_hold_it(algorithm: str, attack: Attack) -> None:
    assert accuracy(attack, algorithm=algorithm, **UNBOUNDED) < 0.4


@pytest.mark.parametrize("algorithm", ["fedavg", "fednova"])
def test_without_an_attack_the_bounds_change_nothing(algorithm: str) -> None:
    assert accuracy(honest, algorithm=algorithm) == accuracy(honest, algorithm=algorithm, **UNBOUNDED) > 0.9
