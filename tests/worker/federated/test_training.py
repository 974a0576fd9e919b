"""Training: local steps against what the papers' formulas give, written down once more in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.config import job_from
from ps.testing import STRICT
from ps.worker.federated.training import Training, beside

MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])
TARGET = np.array([1.0, -3.0])


def training(**job: Any) -> Training:
    return Training(job_from({"mode": "federated", "workers": 2, "optimizer": "sgd:lr=0.25", **job}))


def gradient(weights: np.ndarray) -> np.ndarray:
    """Return the gradient of a bowl whose lowest point is TARGET."""
    return MATRIX @ (weights - TARGET)


def lesson(made: Training, weights: dict[str, np.ndarray], round: int, steps: int = 3) -> dict[str, np.ndarray]:
    """Train one round in place, on float64 alone; return the delta."""
    made.begin(weights, round)
    for _ in range(steps):
        made.step({"float64": gradient(weights["float64"])})
    return made.delta()


def test_local_steps_are_plain_gradient_descent_and_the_delta_is_what_they_changed() -> None:
    made, weights = training(), {"float64": np.array([4.0, 2.0])}
    expected = weights["float64"].copy()
    for round in range(3):
        anchor = expected.copy()
        for _ in range(3):
            expected -= 0.25 * gradient(expected)
        delta = lesson(made, weights, round)
        assert weights["float64"].tobytes() == expected.tobytes()
        assert delta["float64"].tobytes() == (expected - anchor).tobytes()
        assert made.steps == 3


def test_fedprox_pulls_each_step_back_to_where_the_round_began() -> None:
    made, weights = training(algorithm="fedprox:0.5"), {"float64": np.array([4.0, 2.0])}
    expected = weights["float64"].copy()
    for round in range(3):
        anchor = expected.copy()
        for _ in range(4):
            expected = expected - 0.25 * (gradient(expected) + 0.5 * (expected - anchor))
        lesson(made, weights, round, steps=4)
        np.testing.assert_allclose(weights["float64"], expected, rtol=1e-13)
    assert not np.allclose(expected, training_without_prox(), rtol=1e-3)


@pytest.mark.parametrize("algorithm", ["fedprox:4.0", "scaffold"])
def test_what_is_clipped_is_the_gradient_with_its_correction(algorithm: str) -> None:
    """Or a pull of 8 beside a gradient of 0.5 makes a step of 8 although the norm is to be 1 at most."""
    made = training(algorithm=algorithm, clip_norm=1.0, optimizer="sgd:lr=1.0")
    weights = {"float64": np.array([3.0, 0.0])}
    if algorithm == "scaffold":
        weights["float64/control"] = np.array([8.0, 0.0])
    made.begin(weights, 0)
    weights["float64"] += np.array([2.0, 0.0])
    made.step({"float64": np.array([0.5, 0.0])})
    np.testing.assert_allclose(weights["float64"], [4.0, 0.0], rtol=1e-12)


def training_without_prox() -> np.ndarray:
    weights = {"float64": np.array([4.0, 2.0])}
    made = training()
    for round in range(3):
        lesson(made, weights, round, steps=4)
    return weights["float64"]


def test_scaffold_is_the_papers_algorithm_with_its_control_variates() -> None:
    """Two clients with different bowls and numbers of steps, option II, everybody takes part; lr_g is 1."""
    targets, steps, rate = (TARGET, np.array([-2.0, 5.0])), (2, 5), 0.125
    clients = [training(algorithm="scaffold", optimizer=f"sgd:lr={rate}") for _ in range(2)]
    server, control = np.array([4.0, 2.0]), np.zeros(2)
    x, c, own = server.copy(), np.zeros(2), [np.zeros(2), np.zeros(2)]
    for round in range(4):
        deltas, changes = [], []
        for i, made in enumerate(clients):
            weights = {"float64": server.copy(), "float64/control": control.copy()}
            made.begin(weights, round)
            for _ in range(steps[i]):
                made.step({"float64": MATRIX @ (weights["float64"] - targets[i])})
            delta = made.delta()
            made.settle(True)
            deltas.append(delta["float64"])
            changes.append(delta["float64/control"])
            np.testing.assert_array_equal(weights["float64/control"], control)  # the server's is not the client's
        server, control = server + sum(deltas) / 2, control + sum(changes) / 2

        moved, learnt = [], []
        for i in range(2):
            y = x.copy()
            for _ in range(steps[i]):
                y = y - rate * (MATRIX @ (y - targets[i]) - own[i] + c)
            renewed = own[i] - c + (x - y) / (steps[i] * rate)
            moved.append(y - x)
            learnt.append(renewed - own[i])
            own[i] = renewed
        x, c = x + sum(moved) / 2, c + sum(learnt) / 2
        np.testing.assert_allclose(server, x, rtol=1e-12)
        np.testing.assert_allclose(control, c, rtol=1e-11, atol=1e-13)
        for i in range(2):
            np.testing.assert_allclose(clients[i].own["float64"], own[i], rtol=1e-11, atol=1e-13)
    assert np.abs(own[0] - own[1]).max() > 0.1


def test_a_contribution_that_does_not_count_leaves_the_clients_control_variate_as_it_was() -> None:
    made = training(algorithm="scaffold")
    weights = {"float64": np.array([4.0, 2.0]), "float64/control": np.zeros(2)}
    lesson(made, weights, 0)
    made.settle(False)
    assert not made.own["float64"].any()
    lesson(made, weights, 0)
    made.settle(True)
    kept = made.own["float64"].copy()
    assert kept.all()
    lesson(made, weights, 1)
    made.settle(False)
    assert made.own["float64"].tobytes() == kept.tobytes()


@pytest.mark.parametrize(("algorithm", "keeps"), [("fedavg", False), ("diloco", True)])
def test_a_local_optimizers_state_begins_anew_each_round_unless_the_algorithm_keeps_it(
    algorithm: str, keeps: bool
) -> None:
    made = training(algorithm=algorithm, local_optimizer="momentum:lr=0.25,momentum=0.5")
    weights = {"float64": np.array([4.0, 2.0])}
    expected, velocity = weights["float64"].copy(), np.zeros(2)
    for round in range(3):
        if not keeps:
            velocity[...] = 0
        for _ in range(3):
            velocity = 0.5 * velocity + gradient(expected)
            expected = expected - 0.25 * velocity
        lesson(made, weights, round)
        np.testing.assert_allclose(weights["float64"], expected, rtol=1e-13)
    assert made.updates == (9 if keeps else 3)


def test_adams_bias_correction_counts_from_the_round_or_from_the_first_round() -> None:
    for algorithm, first_step_of_the_second_round in (("fedavg", 1), ("diloco", 3)):
        made = training(algorithm=algorithm, local_optimizer="adam:lr=0.1,beta1=0.5,beta2=0.5,eps=1e-30")
        weights = {"float64": np.array([4.0, 2.0])}
        lesson(made, weights, 0, steps=2)
        made.begin(weights, 1)
        made.step({"float64": np.array([1.0, 1.0])})
        assert made.updates == first_step_of_the_second_round


def test_diloco_trains_with_its_own_adamw_if_none_is_asked_for() -> None:
    made, weights = training(algorithm="diloco", optimizer="sgd:lr=100"), {"float64": np.array([4.0, 2.0])}
    before = weights["float64"].copy()
    made.begin(weights, 0)
    made.step({"float64": np.array([7.0, -7.0])})
    np.testing.assert_allclose(weights["float64"], before * (1 - 1e-3 * 0.1) - 1e-3 * np.array([1, -1]), rtol=1e-6)


def test_clipping_by_value_bounds_each_element_of_each_steps_gradient() -> None:
    made, weights = training(clip_value=0.5), {"float64": np.zeros(3)}
    made.begin(weights, 0)
    made.step({"float64": np.array([4.0, -0.25, -9.0])})
    assert weights["float64"].tolist() == [-0.125, 0.0625, 0.125]


def test_clipping_by_norm_takes_the_norm_of_both_dtypes_together() -> None:
    made = training(clip_norm=1.0)
    weights = {"float32": np.zeros(1, np.float32), "float64": np.zeros(1)}
    made.begin(weights, 0)
    made.step({"float32": np.array([3.0], np.float32), "float64": np.array([4.0])})
    np.testing.assert_allclose(weights["float32"], -0.25 * 3 / 5, rtol=1e-6)
    np.testing.assert_allclose(weights["float64"], -0.25 * 4 / 5, rtol=1e-12)
    made.step({"float32": np.array([0.3], np.float32), "float64": np.array([0.4])})  # short enough
    np.testing.assert_allclose(weights["float64"], -0.25 * 4 / 5 - 0.1, rtol=1e-12)


def test_a_schedule_counts_rounds_not_steps_and_so_does_a_learning_rate_that_is_set() -> None:
    made, weights = training(schedule="step:every=2,gamma=0.5"), {"float64": np.zeros(1)}
    lengths = []
    for round in range(6):
        if round == 3:
            made.set_rates(round, [""], lr=1.0)
        made.begin(weights, round)
        for _ in range(2):
            made.step({"float64": np.array([-1.0])})
        lengths.append(made.delta()["float64"][0] / 2)
    assert lengths == [0.25, 0.25, 0.125, 0.5, 0.25, 0.25]


def test_a_learning_rate_that_is_set_within_a_round_holds_from_the_next_on() -> None:
    made, weights = training(), {"float64": np.zeros(1)}
    made.begin(weights, 4)
    made.set_rates(4, [""], lr=1.0)
    made.step({"float64": np.array([-1.0])})
    assert weights["float64"][0] == 0.25
    made.begin(weights, 5)
    made.step({"float64": np.array([-1.0])})
    assert weights["float64"][0] == 1.25


def test_buffers_and_counters_are_in_the_delta_as_the_script_left_them() -> None:
    made = training()
    weights = {"float32": np.zeros(1, np.float32), "float64/buffer": np.ones(2), "int64/counter": np.array([2**60])}
    made.begin(weights, 0)
    made.step({"float32": np.ones(1, np.float32)})
    weights["float64/buffer"] += 0.5
    weights["int64/counter"] += 3
    delta = made.delta()
    assert delta["float64/buffer"].tolist() == [0.5, 0.5]
    assert (delta["int64/counter"].tolist(), delta["int64/counter"].dtype) == ([3], np.int64)


def test_a_round_that_is_undone_leaves_everything_as_it_began() -> None:
    made = training()
    weights = {"float64": np.array([4.0, 2.0]), "float64/buffer": np.ones(2), "int64/counter": np.array([1])}
    before = {name: vector.copy() for name, vector in weights.items()}
    lesson(made, weights, 0)
    weights["float64/buffer"] += 1
    weights["int64/counter"] += 1
    made.undo()
    np.testing.assert_equal(weights, before)


def test_a_delta_is_a_copy_that_the_next_round_does_not_change() -> None:
    made, weights = training(), {"float64": np.array([4.0, 2.0])}
    delta = lesson(made, weights, 0)
    kept = delta["float64"].copy()
    lesson(made, weights, 1)
    assert delta["float64"].tobytes() == kept.tobytes()


def test_what_comes_from_disk_goes_to_the_weights_side(strict_device: xp.Device) -> None:
    made = training(algorithm="scaffold")
    made.own["float64"] = np.ones(2)
    weights = {"float64": STRICT.to_device(np.zeros(2)), "float64/control": STRICT.to_device(np.zeros(2))}
    made.begin(weights, 0)
    assert isinstance(made.own["float64"], STRICT.array_type)
    assert xp.to_host(made.own["float64"]).tolist() == [1, 1]
    assert beside(made.own["float64"], weights["float64"]) is made.own["float64"]
