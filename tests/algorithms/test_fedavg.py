"""FedAvg: the weights are the clients' mean, by examples."""

from __future__ import annotations

import numpy as np

from support.regression import Federation, check, clients, descend, optimum, start, train


def test_the_weights_are_the_mean_of_the_clients_by_examples() -> None:
    w, expected = start(), []
    members = clients()
    for _ in range(8):
        learnt = [descend(member, w) for member in members]
        w = sum(len(member.y) * local for member, local in zip(members, learnt, strict=True)) / 70
        expected.append(w)
    check(train("fedavg", 8), expected)


def test_only_who_takes_part_counts() -> None:
    members, w, expected = clients(), start(), []
    rounds = [(0, 1), (3,), (1, 2, 3), (0, 2)]
    for chosen in rounds:
        total = sum(len(members[index].y) for index in chosen)
        w = sum(len(members[index].y) / total * descend(members[index], w) for index in chosen)
        expected.append(w)
    federation = Federation("fedavg", members)
    check([federation.round(chosen) for chosen in rounds], expected)


def test_one_local_step_is_gradient_descent_on_everybodys_examples() -> None:
    members = clients(steps=(1, 1, 1, 1))
    federation = Federation("fedavg", members)
    for _ in range(600):
        federation.round()
    np.testing.assert_allclose(federation.weights, optimum(members), rtol=1e-6)
