"""SCAFFOLD: algorithm 1 of Karimireddy et al. with option II."""

from __future__ import annotations

import numpy as np
import pytest

from ps import xp
from ps.algorithms import ALGORITHMS
from ps.algorithms.scaffold import renew
from support.regression import LR, SIZE, Federation, check, clients, optimum, start

ROUNDS = [(0, 1), (3, 2), (1, 2), (0, 3), (0, 1, 2, 3), (2,), (1, 3), (0, 2)]


@pytest.mark.parametrize(("server", "global_lr"), [("", 1.0), ("sgd:lr=0.5", 0.5)])
def test_rounds_with_some_of_the_clients_are_those_of_the_paper(server: str, global_lr: float) -> None:
    members = clients()
    x, c, own = start(), np.zeros(SIZE), np.zeros((4, SIZE))
    expected = []
    for chosen in ROUNDS:
        y, new = {}, {}
        for i in chosen:
            y[i] = x
            for _ in range(members[i].steps):
                y[i] = y[i] - LR * (members[i].gradient(y[i]) - own[i] + c)
            new[i] = own[i] - c + (x - y[i]) / (members[i].steps * LR)
        x = x + global_lr / len(chosen) * sum(y[i] - x for i in chosen)
        c = c + sum(new[i] - own[i] for i in chosen) / 4
        for i in chosen:
            own[i] = new[i]
        expected.append(x)
    federation = Federation("scaffold", members, server=server)
    check([federation.round(chosen) for chosen in ROUNDS], expected)
    np.testing.assert_allclose(federation.control, c, rtol=1e-11)


def test_with_local_momentum_control_variates_are_means_of_gradients() -> None:
    """Or momentum 0.9 makes them up to ten times as long as the gradients that they are to take the place of."""
    members = clients(steps=(6, 6, 6, 6))
    federation = Federation("scaffold", members, local="momentum:lr=0.0005,momentum=0.9")
    for _ in range(2):
        federation.round()
    for member, own in zip(members, federation.own, strict=True):
        np.testing.assert_allclose(own, member.gradient(federation.weights), rtol=0.2, atol=0.2)
    np.testing.assert_allclose(federation.control, np.mean(federation.own, axis=0), rtol=1e-11)


def test_it_finds_the_optimum_that_fedavg_drifts_away_from() -> None:
    members = clients(examples=(20, 20, 20, 20), steps=(9, 9, 9, 9))
    distances = {}
    for text in ("scaffold", "fedavg"):
        federation = Federation(text, members)
        for _ in range(400):
            federation.round()
        distances[text] = float(np.linalg.norm(federation.weights - optimum(members)))
    assert distances["scaffold"] < 1e-6 and distances["fedavg"] > 0.01


def test_the_new_control_variate_is_a_new_array_and_nothing_else_changes() -> None:
    arrays = np.random.default_rng(0).standard_normal((4, SIZE))
    before = arrays.copy()
    for lr in (0.1, 0.0):
        found = renew(*arrays, 3, lr)
        assert not np.shares_memory(found, arrays)
        np.testing.assert_array_equal(arrays, before)


def test_steps_of_no_length_leave_the_control_variate_as_it_is() -> None:
    own, control, anchor = np.random.default_rng(0).standard_normal((3, SIZE))
    np.testing.assert_array_equal(renew(own, control, anchor, anchor, 3, 0.0), own)
    np.testing.assert_array_equal(renew(own, control, anchor, anchor, 0, 0.1), own)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_stacked_clients_and_device_arrays_are_treated_alike(dtype: str, strict_device: xp.Device) -> None:
    algorithm = ALGORITHMS.parse("scaffold").build()
    assert algorithm.correct is not None and algorithm.renew is not None
    rng = np.random.default_rng(0)
    gradient, weights, own = rng.standard_normal((3, 3, 4, 2)).astype(dtype)
    anchor, control = rng.standard_normal((2, 4, 2)).astype(dtype)
    each, news = [], []
    for i in range(3):
        each.append(gradient[i].copy())
        algorithm.correct(each[-1], weights[i], anchor, control, own[i])
        news.append(algorithm.renew(own[i], control, anchor, weights[i], 5, 0.1))
    for device in (xp.CPU, strict_device):
        found, y, x, c, c_i = (device.array(array) for array in (gradient, weights, anchor, control, own))
        algorithm.correct(found, y, x, c, c_i)
        new = algorithm.renew(c_i, c, x, y, 5, 0.1)
        assert found.dtype == new.dtype == dtype
        np.testing.assert_array_equal(xp.to_host(found), each)
        np.testing.assert_array_equal(xp.to_host(new), news)
