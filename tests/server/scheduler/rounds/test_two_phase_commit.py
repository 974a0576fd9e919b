"""Promises of commit: no step before all that have a part of the model are ready for it."""

from __future__ import annotations

import numpy as np
import pytest

from ps.aggregators import AGGREGATORS
from ps.algorithms import ALGORITHMS
from ps.errors import BadMessage, UsageError
from ps.protocol.messages import Distances, RoundStatus
from ps.server.scheduler.rounds.ledger import Ledger
from ps.server.scheduler.rounds.two_phase_commit import TwoPhaseCommit


def closing_of(
    aggregator: str, count: int, algorithm: str = "fedavg", servers: int = 2
) -> tuple[TwoPhaseCommit, Ledger]:
    ledger = Ledger(servers)
    for task in range(count):
        ledger.enter(task, 2.0, 1.0, 1.0)
    commit = TwoPhaseCommit(
        frozenset({0, 1}), ALGORITHMS.parse(algorithm).build(), AGGREGATORS.parse(aggregator).build()
    )
    commit.begin(ledger, [2.0] * count, [3] * count, 10)
    return commit, ledger


def prepared(ledger: Ledger, *servers: int) -> None:
    for server in servers:
        ledger.heard(server, RoundStatus(1, 0, ledger.attempt, "prepared", 0, True, ()))


def frame(matrix: object) -> bytes:
    return np.asarray(matrix, np.float64).tobytes()


def test_a_fold_is_prepared_and_published_when_all_servers_have_it() -> None:
    commit, ledger = closing_of("weighted", 3, servers=3)
    assert (ledger.phase, ledger.factor, ledger.share) == ("prepare", 1.0, 0.3)
    prepared(ledger, 0, 1)
    assert not commit.go_on(ledger)
    prepared(ledger, 2)  # one without a part of the model must be there, too: it has a version
    assert commit.go_on(ledger) and ledger.phase == "publish"
    assert not commit.go_on(ledger)


def test_the_factor_is_the_algorithms() -> None:
    _, ledger = closing_of("weighted", 2, "fednova")
    assert ledger.factor == 3.0


def test_weights_come_from_the_sum_of_what_the_servers_have_measured() -> None:
    commit, ledger = closing_of("krum:f=0", 3)
    one, other = [[0, 1, 8], [1, 0, 9], [8, 9, 0]], [[0, 9, 9], [9, 0, 0], [9, 0, 0]]
    commit.measured(ledger, 0, Distances(1, 1, 3), frame(one))
    assert not commit.go_on(ledger) and ledger.phase == "measure"
    commit.measured(ledger, 1, Distances(2, 1, 3), frame(other))
    assert commit.go_on(ledger) and ledger.phase == "prepare"
    assert ledger.weights == (0.0, 1.0, 0.0), "the second is nearest to another, over both servers"


def test_distances_of_another_attempt_or_number_are_nobodys() -> None:
    commit, ledger = closing_of("krum:f=0", 3)
    for server, message in ((0, Distances(1, 9, 3)), (1, Distances(2, 1, 2))):
        commit.measured(ledger, server, message, b"whatever")
    assert not commit.go_on(ledger)
    with pytest.raises(BadMessage, match="72 bytes"):
        commit.measured(ledger, 0, Distances(1, 1, 3), b"short")


def test_a_rule_that_has_no_use_for_so_few_says_so() -> None:
    commit, ledger = closing_of("krum:f=1", 3)
    for server in (0, 1):
        commit.measured(ledger, server, Distances(1, 1, 3), frame(np.zeros((3, 3))))
    with pytest.raises(UsageError):
        commit.go_on(ledger)
