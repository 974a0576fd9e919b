"""FederatedStore: whole rounds through the real scheduler and servers, against the arithmetic they stand for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.errors import GradientError, StateError
from ps.models import softmax
from ps.protocol.query import fetch_status
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.local import LocalStore
from ps.worker.step_log import StepLog

Start = Callable[..., LocalCluster]
SOON: Any = {"start_timeout": 3.0}
"""For jobs whose last client leaves before the end: the scheduler waits so long for another."""
Params = dict[str, np.ndarray]


def federated(loopback: Start, **job: Any) -> LocalCluster:
    return loopback(**{"mode": "federated", "servers": 2, "optimizer": "sgd:lr=0.125", "chunk_size": 1024, **job})


def whole_numbers(n: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Return examples whose training is exact in float64 for some steps: everything is a short binary fraction."""
    random = np.random.default_rng(0)
    return random.integers(-1, 3, (n, 2)).astype(np.float64), random.integers(-3, 4, n).astype(np.float64)


def line(params: Any, x: np.ndarray, y: np.ndarray) -> Params:
    """Return the gradient of half the mean squared error of a linear model."""
    return {"w": (x @ params["w"] - y) @ x / len(x)}


def copied(params: Any) -> Params:
    return {name: np.array(array) for name, array in params.items()}


def fit(kv: KV, data: Any, batch_size: int = 4, epochs: int = 1, shuffle: bool = False) -> Params:
    params = kv.init({"w": np.zeros(2)})
    for x, y in kv.batches(data, batch_size, epochs=epochs, shuffle=shuffle):
        kv.step(line(params, x, y), loss=1.0)
    return copied(params)


def alone(script: Callable[[KV], Any], **job: Any) -> Any:
    from ps.config import job_from

    with KV(LocalStore(job_from({"optimizer": "sgd:lr=0.125", **job})), xp.CPU, StepLog(None)) as kv:
        return script(kv)


def test_a_model_that_is_cut_for_other_servers_is_trained_as_ever(loopback: Start) -> None:
    def script(kv: KV) -> Params:
        params = kv.init({"w": np.zeros(3000)})
        for x, _ in kv.batches(whole_numbers(), 4):
            kv.step({"w": np.linspace(0, x.sum(), 3000)})
        return copied(params)

    found, expected = (
        federated(loopback, rounds=2, chunk_size=1 << 20, cut_for=cut_for).run(script)[0] for cut_for in (5, None)
    )
    assert np.array_equal(found["w"], expected["w"]) and found["w"].any()


def test_one_client_with_all_the_data_trains_as_one_process_does_bit_for_bit(loopback: Start) -> None:
    data = whole_numbers()
    (there,) = federated(loopback, workers=1, rounds=2).run(lambda kv: fit(kv, data))
    here = alone(lambda kv: fit(kv, data, epochs=2))
    assert there["w"].tobytes() == here["w"].tobytes()
    assert there["w"].all()


def test_one_local_step_of_equal_shares_is_one_synchronous_step_of_the_mean_gradient(loopback: Start) -> None:
    random = np.random.default_rng(1)
    data = random.standard_normal((48, 6)).astype(np.float32), random.integers(0, 3, 48)

    def script(kv: KV) -> Params:
        params = kv.init(softmax.init([6, 3], seed=0))
        for x, y in kv.batches(data, 16, epochs=4):
            _, grads = softmax.loss_and_grad(params, x, y)
            kv.step(grads)
        kv.barrier()
        return copied(params)

    job = federated(loopback, workers=3, rounds=4, local_steps=1, min_clients=3)
    clients, workers = job.run(*[script] * 3), loopback(workers=3, optimizer="sgd:lr=0.125").run(*[script] * 3)
    for params in clients:
        for name, expected in workers[0].items():
            np.testing.assert_allclose(params[name], expected, rtol=1e-5, atol=1e-6)
    assert np.abs(workers[0]["weight" if "weight" in workers[0] else next(iter(workers[0]))]).max() > 0.01


def test_all_clients_end_with_the_same_weights_whoever_took_part(loopback: Start) -> None:
    job = federated(loopback, workers=4, clients_per_round=2, over_select=1.0, rounds=5, compress="topk:0.5")
    results = job.run(*[lambda kv: fit(kv, whole_numbers(32))] * 4)
    assert len({params["w"].tobytes() for params in results}) == 1


def test_scaffolds_control_variates_reach_clients_and_come_back_renewed(loopback: Start) -> None:
    data, rate, rounds = whole_numbers(8), 0.125, 3

    def script(kv: KV) -> tuple[Params, np.ndarray]:
        params = fit(kv, (data[0] * (1 + kv.rank), data[1]), batch_size=8)
        return params, kv._store.training.own["float64"].copy()

    job = federated(
        loopback, workers=2, rounds=rounds, algorithm="scaffold", partition="own", local_epochs=3, min_clients=2
    )
    results = job.run(script, script)
    server, control, own = np.zeros(2), np.zeros(2), [np.zeros(2), np.zeros(2)]
    for _ in range(rounds):
        moved, learnt = [], []
        for i in range(2):
            local = {"w": server.copy()}
            for _ in range(3):
                gradient = line(local, data[0] * (1 + i), data[1])["w"]
                local["w"] = local["w"] - rate * (gradient - own[i] + control)
            renewed = own[i] - control + (server - local["w"]) / (3 * rate)
            moved.append(local["w"] - server)
            learnt.append(renewed - own[i])
            own[i] = renewed
        server, control = server + sum(moved) / 2, control + sum(learnt) / 2
    for i, (params, mine) in enumerate(results):
        np.testing.assert_allclose(params["w"], server, rtol=1e-9)
        np.testing.assert_allclose(mine, own[i], rtol=1e-9)


@pytest.mark.parametrize("algorithm", ["fedprox:0.5", "scaffold"])
def test_what_changes_gradients_does_not_change_the_scripts_arrays(loopback: Start, algorithm: str) -> None:
    def script(kv: KV) -> None:
        params = kv.init({"w": np.zeros(2)})
        for _ in kv.batches(whole_numbers(), 4):
            gradient = np.array([1.0, -2.0])
            gradient.flags.writeable = False
            kv.step({"w": gradient})
            assert gradient.tolist() == [1.0, -2.0]
        assert params["w"].any()

    federated(loopback, workers=1, rounds=2, algorithm=algorithm).run(script)


def test_a_step_outside_a_round_says_where_rounds_come_from(loopback: Start) -> None:
    def script(kv: KV) -> None:
        kv.init({"w": np.zeros(2)})
        for step in (lambda: kv.step({"w": np.ones(2)}), lambda: kv.push({"w": np.ones(2)})):
            with pytest.raises(StateError, match="take the batches from"):
                step()
        fit_on(kv)
        with pytest.raises(StateError, match="take the batches from"):  # all rounds are done
            kv.step({"w": np.ones(2)})

    def fit_on(kv: KV) -> None:
        for x, y in kv.batches(whole_numbers(), 4):
            kv.step(line(kv.params, x, y))

    federated(loopback, workers=1, rounds=1).run(script)


def test_within_a_round_the_parameters_are_the_clients_own_and_a_pull_elsewhere_brings_the_global_ones(
    loopback: Start,
) -> None:
    def script(kv: KV) -> None:
        params = kv.init({"w": np.ones(2)})
        out, mine = {"w": np.zeros(2)}, {"w": np.zeros(2)}
        for _ in kv.batches(whole_numbers(4), 4):
            kv.wait(kv.push({"w": np.full(2, 8.0)}))
            assert params["w"].tolist() == [0, 0]
            kv.wait(kv.pull(out))
            kv.wait(kv.pull())
            kv.barrier()
            assert out["w"].tolist() == [1, 1]
            assert params["w"].tolist() == [0, 0]
            kv.push_pull({"w": np.full(2, 8.0)}, mine)
            assert mine["w"].tolist() == params["w"].tolist() == [-1, -1]
        kv.barrier()
        kv.wait(kv.pull(out))
        assert out["w"].tolist() == params["w"].tolist() == [-1, -1]
        assert kv.clock == 1

    federated(loopback, workers=1, rounds=1).run(script)


def test_set_lr_holds_from_the_next_round_on(loopback: Start) -> None:
    def script(kv: KV) -> list[float]:
        params, seen = kv.init({"w": np.zeros(2)}), []
        for number, _ in enumerate(kv.batches(np.zeros(4), 4)):
            kv.step({"w": np.array([-1.0, 0.0])})
            if number == 0:
                kv.set_lr(1.0)
            seen.append(float(params["w"][0]))
        return seen

    assert federated(loopback, workers=1, rounds=3, partition="own").run(script) == [[0.125, 1.125, 2.125]]


def test_a_model_of_fewer_elements_than_servers_is_trained_too(loopback: Start) -> None:
    def script(kv: KV) -> float:
        params = kv.init({"w": np.zeros(1)})
        for _ in kv.batches(np.zeros(4), 4):
            kv.step({"w": np.array([-1.0])})
        return float(params["w"][0])

    assert federated(loopback, workers=1, rounds=2, partition="own").run(script) == [0.25]


def test_a_script_that_breaks_off_gives_its_task_back_and_has_the_rounds_weights_again(loopback: Start) -> None:
    def script(kv: KV) -> None:
        params = kv.init({"w": np.ones(2)})
        for _ in kv.batches(whole_numbers(), 4):
            kv.step({"w": np.ones(2)})
            break
        assert params["w"].tolist() == [1, 1]
        with pytest.raises(StateError):
            kv.step({"w": np.ones(2)})

    federated(loopback, workers=1, rounds=1, **SOON).run(script)


def test_a_client_that_breaks_off_is_not_waited_for(loopback: Start) -> None:
    def quits(kv: KV) -> None:
        kv.init({"w": np.zeros(2)})
        for _ in kv.batches(whole_numbers(), 4):
            break
        done.wait(30)

    def stays(kv: KV) -> Params:
        found = fit(kv, whole_numbers())
        done.set()
        return found

    done = threading.Event()
    job = federated(loopback, workers=2, rounds=2, min_clients=1, round_deadline=1)
    assert job.run(quits, stays)[1]["w"].any()


def test_a_script_that_fails_in_a_round_ends_with_its_own_error(loopback: Start) -> None:
    def fails(kv: KV) -> None:
        kv.init({"w": np.zeros(2)})
        for _ in kv.batches(whole_numbers(), 4):
            raise ValueError("the script's own")

    with pytest.raises(ValueError, match="the script's own"):
        federated(loopback, workers=1, rounds=1, **SOON).run(fails)


def test_batches_that_outlive_the_connection_are_no_trouble(loopback: Start) -> None:
    kept: list[Any] = []

    def script(kv: KV) -> None:
        kv.init({"w": np.zeros(2)})
        kept.append(kv.batches(whole_numbers(), 4))
        next(kept[0])

    federated(loopback, workers=1, rounds=1, **SOON).run(script)
    began = time.monotonic()
    kept[0].close()
    assert time.monotonic() - began < 1


def test_the_round_goes_on_without_a_step_with_nan_if_told_so(loopback: Start) -> None:
    def script(kv: KV) -> Params:
        params = kv.init({"w": np.zeros(2)})
        for number, _ in enumerate(kv.batches(whole_numbers(8), 4)):
            kv.step({"w": np.array([-8.0, -8.0 if number else np.nan])})
        return copied(params)

    (found,) = federated(loopback, workers=1, rounds=1, on_nan="skip").run(script)
    assert found["w"].tolist() == [1, 1]


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("bad", [np.nan, 1e200])
def test_a_client_with_nan_in_a_gradient_gives_the_round_back_and_takes_part_in_the_next(
    loopback: Start, bad: float, ready: bool
) -> None:
    steps, refused = list[int](), list[dict[str, int]]()

    def script(kv: KV) -> Params:
        params = kv.init({"w": np.zeros(2)})
        for number, _ in enumerate(kv.batches(whole_numbers(8), 4)):
            steps.append(kv.clock)
            grads = {"w": np.array([-8.0, -8.0 if number else bad])}
            if ready:
                kv.ready("w", grads.pop("w"))
            kv.step(grads, loss=1.0)
        refused.append(fetch_status(cluster.address)["federated"]["refused"])
        return copied(params)

    cluster = federated(loopback, workers=1, rounds=2)
    (found,) = cluster.run(script)
    assert found["w"].tolist() == [4, 4], "two rounds of two steps, and nothing of the one that was given back"
    assert steps == [0, 0, 0, 1, 1], "it ends with its step"
    assert refused == [{"declined": 1}]


def test_a_client_whose_gradients_spoil_three_rounds_in_a_row_gives_up_and_says_which(loopback: Start) -> None:
    def script(kv: KV) -> None:
        kv.init({"w": np.zeros(2)})
        for _ in kv.batches(whole_numbers(8), 4):
            kv.step({"w": np.array([-8.0, np.nan])})

    with pytest.raises(GradientError, match=r"'w' is nan at \(1,\), at clock 0, 3 times in a row; nothing was sent"):
        federated(loopback, workers=1, rounds=1).run(script)


def test_a_round_without_any_step_is_given_back_and_changes_nothing(loopback: Start) -> None:
    seen: list[float] = []

    def script(kv: KV) -> None:
        params = kv.init({"w": np.zeros(2)})
        store: Any = kv._store
        for number, _ in enumerate(kv.batches(whole_numbers(4), 4)):
            seen.append(float(params["w"][0]))
            if number != 1:
                kv.step({"w": np.full(2, -8.0)})
        assert store.clock == 2

    federated(loopback, workers=1, rounds=2).run(script)
    assert seen == [0, 1, 1]


def test_a_late_client_begins_with_the_version_that_is_out(loopback: Start) -> None:
    first_is_done, joined = threading.Event(), threading.Event()

    def first(kv: KV) -> None:
        params = kv.init({"w": np.zeros(2)})
        for number, (x, y) in enumerate(kv.batches(whole_numbers(4), 4)):
            kv.step(line(params, x, y))
            if number == 1:
                first_is_done.set()
                assert joined.wait(30)

    def second(kv: KV) -> int:
        assert first_is_done.wait(30)
        kv.init({"w": np.full(2, 99.0)})  # the first one's values win
        joined.set()
        version = kv.clock
        assert np.abs(kv.params["w"]).max() < 99
        for x, y in kv.batches(whole_numbers(4), 4):
            kv.step(line(kv.params, x, y))
        return version

    job = federated(loopback, workers=2, rounds=4, min_clients=1, clients_per_round=1, over_select=1.0, partition="own")
    assert job.run(first, second)[1] >= 1


def test_servers_without_room_for_all_deltas_at_once_take_one_after_the_other(loopback: Start) -> None:
    size = 300_000  # more than the room for uploads

    def script(kv: KV) -> float:
        params = kv.init({"w": np.zeros(size, np.float32)})
        for _ in kv.batches(np.zeros(4), 4):
            kv.step({"w": np.full(size, -8.0, np.float32)})
        return float(params["w"][-1])

    job = federated(
        loopback,
        servers=1,
        workers=5,
        min_clients=5,
        rounds=1,
        partition="own",
        upload_room=1 << 20,
        chunk_size=1 << 20,
    )
    assert job.run(*[script] * 5) == [1.0] * 5
