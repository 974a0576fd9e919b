"""Promises of whole simulations: repeatable to the bit, equal to the plain loop, and undisturbed by who drops out."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ps.errors import DataError
from ps.models import softmax
from ps.partition import partition
from ps.simulate import simulation
from ps.simulate.availability import parse_availability
from ps.simulate.evaluator import Evaluator
from ps.simulate.local_work import LocalWork
from ps.simulate.report import report
from ps.simulate.simulation import Moment, Outcome, Scenario, simulate
from ps.simulate.speed import parse_bandwidth, parse_speed
from ps.simulate.traces import Drawn
from support.federation import examples
from support.long import cases

pytestmark = pytest.mark.usefixtures("forked_roles")

ROUGH = Drawn(
    5,
    parse_speed("classes:slow=0.5,factor=10"),
    parse_bandwidth("lognormal:up=1e3,down=1e4"),
    parse_availability("onoff:on=30,off=15"),
    dropout=0.2,
)


def scenario(traces: Drawn = ROUGH, processes: int = 1, more: dict[str, Any] | None = None, **job: Any) -> Scenario:
    settings = {"mode": "federated", "workers": 20, "clients_per_round": 6, "rounds": 4, "optimizer": "sgd:lr=0.2"}
    return Scenario({**settings, **job}, examples(), batch_size=4, traces=traces, processes=processes, **(more or {}))


def told(outcome: Outcome) -> tuple[Any, ...]:
    counters = outcome.counters
    counts = (counters.trained, counters.accepted, counters.dropped, counters.polls, dict(counters.refused))
    moved = (counters.up.tolist(), counters.down.tolist(), outcome.of_clients.tolist())
    return outcome.weights.tobytes(), outcome.history, outcome.evaluations, outcome.seconds, counts, moved


@pytest.mark.parametrize(
    "job",
    [
        {"partition": "dirichlet:0.5", "servers": 2},
        {"algorithm": "scaffold", "late": "carry"},
        {"compress": "topk:0.2", "partition": "features:0.5"},
        {"algorithm": "fedbuff:4", "rounds": 10},
        {"aggregator": "median", "seed": 3, "eval_every": 2},
    ],
    ids=["fedavg", "scaffold", "topk", "fedbuff", "median"],
)
def test_the_same_seed_gives_the_same_bits_for_any_number_of_processes(job: dict[str, Any]) -> None:
    one = told(simulate(scenario(**job)))
    assert one == told(simulate(scenario(processes=3, **job)))
    assert one[0] != told(simulate(scenario(**{**job, "seed": 9})))[0]


def test_a_round_is_the_weighted_mean_of_what_clients_get_by_themselves() -> None:
    data = examples()
    job = {"workers": 5, "clients_per_round": 5, "rounds": 1, "partition": "dirichlet:1.0", "over_select": 1.0}
    outcome = simulate(scenario(Drawn(), **job))
    division, work = partition("dirichlet:1.0", data["y_train"], 5, 0), LocalWork(4)
    first = softmax.init([12, 4], seed=0)
    total = {name: np.zeros(value.shape) for name, value in first.items()}
    for client, share in enumerate(division.shares):
        params = {name: value.copy() for name, value in first.items()}
        for rows, count in zip(*work.batches(client, 0, share), strict=True):
            _, grads = softmax.loss_and_grad(params, data["x_train"][rows[:count]], data["y_train"][rows[:count]])
            for name, value in params.items():
                value -= np.float32(0.2) * grads[name]
        for name, value in params.items():
            total[name] += len(share) * (value - first[name].astype(np.float64))
    flat = outcome.weights.view(np.float32)
    for name, start in (("layer0/weight", 0), ("layer0/bias", 48)):
        expected = first[name] + total[name] / len(data["y_train"])
        np.testing.assert_allclose(flat[start : start + expected.size], expected.reshape(-1), rtol=1e-4, atol=1e-6)


def test_a_model_is_learnt_although_clients_drop_out_and_come_and_go() -> None:
    outcome = simulate(scenario(rounds=25, local_epochs=3))
    assert [version for version, _, _ in outcome.evaluations] == list(range(26))
    assert outcome.evaluations[-1][2] > max(0.7, outcome.evaluations[0][2] + 0.2)
    assert outcome.counters.dropped > 10
    assert len(outcome.of_clients) == 20 and outcome.of_clients.mean() > 0.7
    assert len(outcome.history) == 25


def test_hours_without_any_client_are_waited_for() -> None:
    night = Drawn(
        availability=parse_availability("diurnal:share=0.1,spread=0.01"), speed=parse_speed("constant:step=600")
    )
    outcome = simulate(scenario(night, rounds=8, over_select=1.0, round_deadline=3000.0))
    assert len(outcome.history) == 8
    assert outcome.seconds > 86_400, "the last rounds are another night's"


def test_a_simulation_ends_at_its_target() -> None:
    outcome = simulate(scenario(rounds=100, more={"target": 0.6}))
    *before, last = [accuracy for _, _, accuracy in outcome.evaluations]
    assert last >= 0.6 > max(before)
    assert outcome.reached(0.6) and not outcome.reached(0.99) and not outcome.reached(None)


def test_whoever_watches_sees_every_round_once_in_order() -> None:
    moments: list[Moment] = []
    simulate(scenario(more={"eval_every": 2}), moments.append)
    assert [moment.version for moment in moments] == [0, 1, 2, 3, 4]
    assert [moment.accuracy is not None for moment in moments] == [True, False, True, False, True]
    assert [moment.seconds for moment in moments] == sorted(moment.seconds for moment in moments)


def test_a_slow_line_and_slow_clients_take_virtual_time() -> None:
    fast = simulate(scenario(Drawn())).seconds
    slow = simulate(scenario(Drawn(speed=parse_speed("constant:step=100")))).seconds
    assert slow > fast + 4 * 100
    narrow = simulate(scenario(Drawn(bandwidth=parse_bandwidth("constant:up=1,down=1e6")))).seconds
    assert narrow > fast + 4 * 200


def test_the_report_has_everything_and_only_plain_values() -> None:
    asked = scenario(more={"target": 0.999})
    outcome = simulate(asked)
    found = report(asked, outcome)
    assert json.loads(json.dumps(found)) == found
    assert found["rounds"] == 4 and found["clients"] == 20
    assert found["accuracy"] == outcome.evaluations[-1][2]
    assert found["target"] == {"accuracy": 0.999, "reached": False}
    assert found["bytes_up"] == outcome.counters.up.sum()
    assert found["up_per_participant"]["max"] == outcome.counters.up.max()
    assert found["up_per_participant"]["n"] == found["participants"] <= 20
    assert found["client_accuracy"]["mean"] == pytest.approx(outcome.of_clients.mean(), abs=1e-6)
    again = report(asked, simulate(asked))
    assert {**found, "real": {}} == {**again, "real": {}}


def test_the_report_says_how_many_honest_clients_were_held_down() -> None:
    asked = scenario(Drawn(), partition="quantity:0.1", max_client_weight=1.5, clients_per_round=20)
    found = report(asked, simulate(asked))
    assert found["tasks"]["capped"] > 0
    equal = scenario(Drawn())
    assert report(equal, simulate(equal))["tasks"]["capped"] == 0


def test_more_clients_than_examples_are_refused_before_anything_starts() -> None:
    with pytest.raises(DataError, match="201 clients"):
        simulate(scenario(workers=201))


@pytest.mark.slow
def test_thousands_of_clients_fit() -> None:
    clients = cases(3000, 10_000)
    made = {**examples(2 * clients + 4000), "x_test": examples(240)["x_test"], "y_test": examples(240)["y_test"]}
    job = {"mode": "federated", "workers": clients, "clients_per_round": 100, "rounds": 3}
    outcome = simulate(Scenario(job, made, batch_size=10, processes=2))
    assert len(outcome.history) == 3 and outcome.counters.accepted == 300


def test_what_is_measured_at_the_end_is_within_the_reported_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def slow(self: Evaluator, params: Any) -> Any:
        clock[0] += 100.0
        return iter([0.5])

    monkeypatch.setattr(simulation, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(Evaluator, "of_clients", slow)
    assert simulate(scenario(rounds=1)).wall_s == 100.0
