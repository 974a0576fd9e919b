"""ps.federated.Client, and scripts that wish for a federated job: alone, in one, and what they are told when wrong."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ps
import ps.federated
from ps.errors import ConfigError, GradientError, UsageError
from ps.models import softmax
from ps.testing import LocalCluster

pytestmark = pytest.mark.usefixtures("alone")

Params = dict[str, np.ndarray]
X = np.random.default_rng(0).integers(-1, 3, (16, 2)).astype(np.float64)
Y = np.random.default_rng(1).integers(-3, 4, 16).astype(np.float64)
RATE = 0.125


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LocalCluster]]:
    """Start a federated job that ``ps.connect`` finds."""
    with contextlib.ExitStack() as stack:

        def start(**job: Any) -> LocalCluster:
            made = LocalCluster(tmp_path, **{"mode": "federated", "servers": 2, "start_timeout": 5.0, **job})
            stack.callback(made.close)
            monkeypatch.setenv("PS_SCHEDULER", made.address)
            monkeypatch.setenv("PS_RUN_DIR", str(tmp_path / "run"))
            return made

        yield start


def together(*works: Callable[[], Any]) -> list[Any]:
    """Run each in a thread of its own and return their results. Raises what one raises."""
    results: list[Any] = [None] * len(works)
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            results[index] = works[index]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive(), "a client hangs"
    if errors:
        raise errors[0]
    return results


def gradient(w: np.ndarray, x: np.ndarray = X, y: np.ndarray = Y) -> np.ndarray:
    return (x @ w - y) @ x / len(x)


def descend(w: np.ndarray, epochs: int = 1) -> np.ndarray:
    """Plain gradient descent over the data in order, batches of 4: exact in float64 for some steps."""
    for _ in range(epochs):
        for at in range(0, len(X), 4):
            w = w - RATE * gradient(w, X[at : at + 4], Y[at : at + 4])
    return w


def fit(params: Params, about: ps.federated.Round) -> tuple[Params, int, dict[str, float]]:
    return {"w": descend(params["w"], about.epochs)}, len(X), {"loss": 0.25, "steps": 4}


def first() -> Params:
    return {"w": np.zeros(2)}


def test_alone_a_client_trains_all_rounds_as_plain_gradient_descent_does_bit_for_bit() -> None:
    final = ps.federated.Client(fit).run(first(), rounds=2)
    assert final["w"].tobytes() == descend(np.zeros(2), epochs=2).tobytes()


def test_one_client_in_a_job_does_the_same_bit_for_bit(cluster: Callable[..., LocalCluster]) -> None:
    cluster(workers=1, rounds=2)
    assert ps.federated.Client(fit).run(first())["w"].tobytes() == descend(np.zeros(2), epochs=2).tobytes()


def test_several_clients_get_the_mean_weighted_by_their_examples(cluster: Callable[..., LocalCluster]) -> None:
    cluster(workers=2, rounds=1, min_clients=2)

    def of(examples: int, value: float) -> Callable[[], Params]:
        def moved(params: Params, about: ps.federated.Round) -> tuple[Params, int]:
            return {"w": params["w"] + value}, examples

        return lambda: ps.federated.Client(moved).run(first())

    for final in together(of(30, 1.0), of(10, 5.0)):
        np.testing.assert_allclose(final["w"], (30 * 1.0 + 10 * 5.0) / 40)


def test_fit_is_told_about_the_round_and_may_change_what_it_is_given(cluster: Callable[..., LocalCluster]) -> None:
    cluster(workers=1, rounds=3, local_epochs=2, local_steps=7, seed=5)
    seen: list[ps.federated.Round] = []

    def spoils(params: Params, about: ps.federated.Round) -> tuple[Params, float]:
        seen.append(about)
        params["w"] += 1
        return params, 2.5

    final = ps.federated.Client(spoils).run(first())
    assert [about.number for about in seen] == [0, 1, 2]
    assert {(about.client, about.clients, about.epochs, about.steps) for about in seen} == {(0, 1, 2, 7)}
    assert len({about.seed for about in seen}) == 3
    assert final["w"].tolist() == [3, 3]


def records(tmp_path: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "run" / name).read_text().splitlines()]


def test_metrics_are_reported_before_and_after_and_are_in_the_record(
    cluster: Callable[..., LocalCluster], tmp_path: Path
) -> None:
    cluster(workers=1, rounds=2, eval_every=1)

    def evaluate(params: Params) -> dict[str, float]:
        params["w"] *= 0  # its own copy
        return {"zero": float(params["w"].sum()), "nan": float("nan")}

    final = ps.federated.Client(fit, evaluate).run(first())
    assert final["w"].any()
    lines = records(tmp_path, "metrics.jsonl")
    assert [(line["clock"], line["steps"], line["samples"], line["verdict"]) for line in lines] == [
        (0, 4, 16, "accepted"),
        (1, 4, 16, "accepted"),
    ]
    assert all((line["loss"], line["zero"], line["zero_tuned"]) == (0.25, 0, 0) for line in lines)
    [last] = records(tmp_path, "evaluations.jsonl")
    assert (last["clock"], last["zero"]) == (2, 0), "the final model is measured too"


def test_buffers_and_counters_go_with_it(cluster: Callable[..., LocalCluster]) -> None:
    def counts(params: Params, about: ps.federated.Round) -> tuple[Params, int]:
        return {"w": params["w"], "seen": params["seen"] + 3, "mean": params["mean"] + 1}, 1

    model = {"w": np.zeros(2), "seen": np.array([2**60 + 1]), "mean": np.zeros(2)}
    kinds = {"seen": "counter", "mean": "buffer"}
    here = ps.federated.Client(counts).run(model, kinds=kinds, rounds=2)
    cluster(workers=1, rounds=2)
    there = ps.federated.Client(counts).run(model, kinds=kinds)
    for final in (here, there):
        assert final["seen"].tolist() == [2**60 + 7]
        assert final["mean"].tolist() == [2, 2]


BAD_RETURNS = [
    (lambda p: {"w": p["w"]}, UsageError, r"fit returns \(parameters, number of examples\)"),
    (lambda p: (p["w"], 3), UsageError, r"fit returns \(parameters, number of examples\)"),
    (lambda p: ({}, 3), UsageError, "fit returned no 'w'"),
    (lambda p: ({"w": np.zeros(3)}, 3), UsageError, r"'w' as float64\[3\]; the model has float64\[2\]"),
    (lambda p: ({"w": np.zeros(2, "f4")}, 3), UsageError, r"'w' as float32\[2\]; the model has float64\[2\]"),
    (lambda p: ({"w": np.array([0, np.nan])}, 3), GradientError, "'w' with NaN or Inf"),
    (lambda p: (p, -1), UsageError, "number of its examples, 0 or more, not -1"),
    (lambda p: (p, float("nan")), UsageError, "0 or more, not nan"),
    (lambda p: (p, "many"), UsageError, "0 or more, not 'many'"),
    (lambda p: (p, 3, {"steps": 0}), UsageError, "number of its local steps, at least 1, not 0"),
    (lambda p: (p, 3, {"steps": float("inf")}), UsageError, "at least 1, not inf"),
    (lambda p: (p, 3, {"loss": "low"}), UsageError, "a metric is a number; loss of fit is 'low'"),
    (lambda p: (p, 3, [0.5]), UsageError, "fit returns metrics as a dict of numbers by name, not list"),
]


@pytest.mark.parametrize(("result", "error", "text"), BAD_RETURNS)
def test_what_fit_must_not_return_is_named(result: Callable[[Params], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ps.federated.Client(lambda params, about: result(params)).run(first(), rounds=1)


def test_in_a_job_nothing_of_it_is_sent(cluster: Callable[..., LocalCluster]) -> None:
    job = cluster(workers=1, rounds=1, start_timeout=3.0)
    bad = ps.federated.Client(lambda params, about: ({"w": np.full(2, np.nan)}, 3))
    with pytest.raises(GradientError, match="3 times in a row; nothing was sent"):
        bad.run(first())
    assert ps.federated.Client(fit).run(first())["w"].tobytes() == descend(np.zeros(2)).tobytes()
    assert not job.failures


@pytest.mark.parametrize(
    "spoil", [lambda params: (params, 0), lambda params: ({}, 0), lambda params: ({"w": np.full(2, np.nan)}, 3)]
)
def test_a_client_with_nothing_to_contribute_sits_that_round_out_and_stays(
    cluster: Callable[..., LocalCluster], tmp_path: Path, spoil: Callable[[Params], Any]
) -> None:
    cluster(workers=2, rounds=3, min_clients=1, eval_every=1)

    def moved(params: Params, about: ps.federated.Round) -> Any:
        params["w"] += 1
        return spoil(params) if about.number == 1 and about.client == 1 else (params, 4)

    work = lambda: ps.federated.Client(moved).run(first())  # noqa: E731
    assert [final["w"].tolist() for final in together(work, work)] == [[3, 3], [3, 3]]
    verdicts = {(line["clock"], line["rank"]): line["verdict"] for line in records(tmp_path, "metrics.jsonl")}
    assert verdicts[1, 0] == "accepted"
    assert verdicts[1, 1] == "declined"
    assert verdicts[2, 1] == "accepted"


def test_the_only_client_without_examples_is_asked_again_for_the_same_round(
    cluster: Callable[..., LocalCluster],
) -> None:
    cluster(workers=1, rounds=2)
    asked: list[int] = []

    def at_last(params: Params, about: ps.federated.Round) -> tuple[Params, int]:
        asked.append(about.number)
        return {"w": params["w"] + 1}, int(len(asked) > 2)

    assert ps.federated.Client(at_last).run(first())["w"].tolist() == [2, 2]
    assert asked == [0, 0, 0, 1]


def test_alone_a_round_without_examples_changes_nothing() -> None:
    def seldom(params: Params, about: ps.federated.Round) -> tuple[Params, int]:
        return {"w": params["w"] + 1}, about.number % 2

    assert ps.federated.Client(seldom).run(first(), rounds=5)["w"].tolist() == [2, 2]


def test_metrics_of_evaluate_that_are_none_are_named(cluster: Callable[..., LocalCluster]) -> None:
    cluster(workers=1, rounds=1, eval_every=1, start_timeout=2.0)
    with pytest.raises(UsageError, match="evaluate returns metrics as a dict of numbers by name, not float"):
        ps.federated.Client(fit, lambda params: 0.5).run(first())  # type: ignore[arg-type, return-value]


def test_an_algorithm_that_corrects_each_step_is_refused_since_the_steps_are_fits(
    cluster: Callable[..., LocalCluster],
) -> None:
    cluster(workers=1, rounds=1, algorithm="scaffold", optimizer="sgd:lr=0.1", start_timeout=2.0)
    with pytest.raises(ConfigError, match="corrects each local step"):
        ps.federated.Client(fit).run(first())


def test_fit_is_told_the_proximal_term_and_must_say_its_steps_where_they_divide(
    cluster: Callable[..., LocalCluster],
) -> None:
    for algorithm, mu in (("fedprox:0.25", 0.25), ("fednova", 0.0)):
        cluster(workers=1, rounds=1, algorithm=algorithm, optimizer="sgd:lr=0.1", start_timeout=2.0)
        told: list[float] = []

        def silent(params: Params, about: ps.federated.Round, told: list[float] = told) -> tuple[Params, float]:
            told.append(about.mu)
            return params, 3.0

        if mu:
            ps.federated.Client(silent).run(first())
        else:
            with pytest.raises(UsageError, match="divides each delta by the number of local steps"):
                ps.federated.Client(silent).run(first())
        assert told == [mu]


def script(**wishes: Any) -> tuple[Params, Any]:
    """Train softmax regression on some data by whatever the job is."""
    random = np.random.default_rng(3)
    data = random.standard_normal((60, 5)).astype(np.float32), random.integers(0, 3, 60)
    with ps.connect(optimizer="sgd:lr=0.5", **wishes) as kv:
        params = kv.init(softmax.init([5, 3], seed=0))
        kv.evaluate(softmax.accuracy, data)
        for x, y in kv.batches(data, batch_size=20, epochs=2):
            loss, grads = softmax.loss_and_grad(params, x, y)
            kv.step(grads, loss=loss)
        return {name: np.array(array) for name, array in params.items()}, kv.job


def test_a_script_that_wishes_for_a_federated_job_trains_centrally_when_there_is_no_cluster() -> None:
    wishes = {"algorithm": "scaffold", "aggregator": "median", "clients_per_round": 40, "min_clients": 30}
    plain, _ = script()
    wished, job = script(mode="federated", workers=100, servers=3, rounds=7, transport="tcp", **wishes)
    assert {name: array.tobytes() for name, array in wished.items()} == {n: a.tobytes() for n, a in plain.items()}
    assert (job.federated, job.workers, job.servers) == (False, 1, 1)


def test_and_so_it_does_when_the_environment_says_federated(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = script()
    for name, value in {"PS_MODE": "federated", "PS_ALGORITHM": "diloco", "PS_AGGREGATOR": "krum:1"}.items():
        monkeypatch.setenv(name, value)
    wished, job = script()
    assert {name: array.tobytes() for name, array in wished.items()} == {n: a.tobytes() for n, a in plain.items()}
    assert not job.federated


def test_a_federated_scripts_record_has_rounds_and_evaluations(
    cluster: Callable[..., LocalCluster], tmp_path: Path
) -> None:
    cluster(workers=2, rounds=3, eval_every=2, min_clients=2, optimizer="sgd:lr=0.5")
    together(script, script)
    lines = records(tmp_path, "metrics.jsonl")
    assert sorted((line["rank"], line["clock"]) for line in lines) == [(r, c) for r in range(2) for c in range(3)]
    assert all(line["steps"] == 2 and line["samples"] == 30 and line["loss"] > 0 for line in lines)
    for line in lines:  # evaluated every second round, and in the last
        assert ("accuracy" in line, "accuracy_tuned" in line) == (line["clock"] != 1,) * 2
    found = records(tmp_path, "evaluations.jsonl")
    assert [(line["rank"], line["clock"]) for line in found] == [(0, 0), (0, 2), (0, 3)]
    assert found[-1]["accuracy"] > found[0]["accuracy"]
