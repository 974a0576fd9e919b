"""RoundLoader: whose data, how often, and what is said of a round. With a store that has its tasks from the test."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.config import job_from
from ps.errors import DataError, PeerLost, UsageError
from ps.testing import StrictArray
from ps.worker.evaluation import Evaluation
from ps.worker.federated.round_loader import RoundLoader, RoundTask
from ps.worker.step_log import StepLog
from ps.worker.traffic import Traffic

LABELS = np.arange(120) % 4
DATA = np.arange(120), LABELS


class Store:
    """Tasks for some rounds, and what became of them."""

    def __init__(self, rounds: Iterable[int] = (0,), rank: int = 0, evaluate: bool = False, **job: Any) -> None:
        self.job = job_from({"mode": "federated", "workers": 4, **job})
        self.rank = rank
        self.traffic = Traffic()
        self.training = SimpleNamespace(steps=0)
        self.finished = False
        self.seen = 0
        self.ended: list[tuple[float, dict[str, float]]] = []
        self.given_back: list[str] = []
        self.trouble: Exception | None = None
        self.waits = 0
        """How often there is nothing to do before the next task."""
        self._rounds = iter(rounds)
        self._evaluate = evaluate

    def begin(self) -> RoundTask | None:
        if self.waits:
            self.waits -= 1
            return None
        round = next(self._rounds, None)
        if round is None:
            self.finished = True
            return None
        self.training.steps, self.seen = 0, round
        return RoundTask(round + 1, round, round, self._evaluate, 0)

    def look(self, version: int) -> int:
        return version

    def end(self, examples: float, report: dict[str, float]) -> str:
        self.ended.append((examples, report))
        return "accepted"

    def decline(self, why: str) -> str:
        self.given_back.append(why)
        return "declined"

    def abandon(self, why: str) -> None:
        self.given_back.append(why)
        if self.trouble is not None:
            raise self.trouble


class Bench:
    """A loader, and the script's side of it."""

    def __init__(self, store: Store, device: xp.Device = xp.CPU, run_dir: Path | None = None) -> None:
        self.store = store
        self.trained = 0
        self.log = StepLog(None if run_dir is None else str(run_dir))
        self.evaluation = Evaluation(lambda: {"trained": self.trained}, self.log)
        self.loader = RoundLoader(store, device, self.log, self.evaluation)  # type: ignore[arg-type]

    def run(self, data: Any = DATA, batch_size: int = 8, shuffle: bool = True) -> list[list[int]]:
        """Step over all batches; return the examples of each."""
        seen = []
        for batch in self.loader.batches(data, batch_size, 99, shuffle):
            seen.append((batch[0] if isinstance(batch, tuple) else batch).tolist())
            self.trained += 1
            self.store.training.steps += 1
            self.loader.note(len(seen[-1]), {"loss": float(self.trained), "text": "not a number"})
        return seen


def examples(**job: Any) -> list[list[int]]:
    """Return what each of four clients trains on in one round, sorted."""
    return [sorted(itertools.chain(*Bench(Store(rank=rank, **job)).run())) for rank in range(4)]


@pytest.mark.parametrize("partition", ["iid", "shards:2", "dirichlet:0.3", "labels:2", "quantity:0.5"])
def test_all_clients_together_have_every_example_once(partition: str) -> None:
    shares = examples(partition=partition)
    assert sorted(itertools.chain(*shares)) == list(range(120))
    assert all(shares)


def test_own_data_are_all_this_clients_whoever_it_is() -> None:
    assert examples(partition="own") == [list(range(120))] * 4


def test_a_client_has_the_same_share_in_each_round_in_another_order() -> None:
    seen = Bench(Store(rounds=range(3))).run(batch_size=30)
    assert len(seen) == 3
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(seen[2])
    assert len({tuple(batch) for batch in seen}) == 3


def test_without_shuffling_the_order_is_the_shares_own_each_time() -> None:
    seen = Bench(Store(rounds=range(2))).run(batch_size=30, shuffle=False)
    assert seen[0] == seen[1] == sorted(seen[0])


def test_the_same_seed_client_and_round_give_the_same_batches() -> None:
    def seen(**store: Any) -> list[list[int]]:
        return Bench(Store(partition="own", **store)).run()

    assert seen(rounds=[3]) == seen(rounds=[3])
    others = [seen(rounds=[4]), seen(rounds=[3], rank=1), seen(rounds=[3], seed=1)]
    assert all(other != seen(rounds=[3]) for other in others)


def test_local_epochs_are_passes_over_the_share_whatever_the_script_plans() -> None:
    seen = list(itertools.chain(*Bench(Store(local_epochs=3)).run()))
    assert len(seen) == 90
    assert all(seen.count(example) == 3 for example in set(seen))


@pytest.mark.parametrize("steps", [1, 4, 5, 11])
def test_local_steps_are_as_many_batches_also_over_the_end_of_the_share(steps: int) -> None:
    bench = Bench(Store(local_steps=steps, local_epochs=7))
    seen = bench.run()
    assert len(seen) == steps
    assert len(set(itertools.chain(*seen[:4]))) == len(list(itertools.chain(*seen[:4])))
    assert bench.store.ended[0][0] == 30  # the examples of the share, by which it weighs


def test_a_batch_larger_than_the_share_is_the_share() -> None:
    assert [len(batch) for batch in Bench(Store(local_epochs=2)).run(batch_size=1000)] == [30, 30]


def test_batches_come_on_the_device_and_their_size_is_known(strict_device: xp.Device) -> None:
    bench = Bench(Store(), strict_device)
    assert bench.loader.examples == 0
    for x, y in bench.loader.batches(DATA, 7, 1, True):
        assert isinstance(x, StrictArray)
        assert isinstance(y, StrictArray)
        assert bench.loader.examples == len(x)
    assert bench.loader.examples


def test_a_script_that_has_enough_gives_its_task_back() -> None:
    bench = Bench(Store(rounds=range(5)))
    for _ in bench.loader.batches(DATA, 8, 1, True):
        break
    assert bench.store.given_back == ["the script went on to something else"]
    assert not bench.store.ended
    bench.run()  # and may come again for the other rounds
    assert len(bench.store.ended) == 4


def test_a_task_that_can_no_longer_be_given_back_hides_nothing() -> None:
    bench = Bench(Store())
    bench.store.trouble = PeerLost("the job has ended")
    batches = bench.loader.batches(DATA, 8, 1, True)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert bench.store.given_back


@pytest.mark.parametrize(
    ("data", "job", "text"),
    [
        (DATA, {"workers": 500}, "500"),
        ((np.arange(3), np.arange(4)), {"partition": "own"}, "3, 4 examples"),
    ],
)
def test_data_that_cannot_be_divided_are_refused_at_the_call(data: Any, job: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        Bench(Store(**job)).loader.batches(data, 8, 1, True)


@pytest.mark.parametrize("job", [{}, {"local_steps": 3}])
def test_a_client_with_an_empty_share_declines_and_stays_until_the_job_is_done(
    tmp_path: Path, job: dict[str, Any]
) -> None:
    bench = Bench(Store(rounds=range(2), partition="own", **job), run_dir=tmp_path)
    assert bench.run((np.empty(0), np.empty(0))) == []
    assert bench.store.finished
    assert bench.store.given_back == ["there are no examples in its share"] * 2
    assert not bench.store.ended
    bench.log.flush()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["clock"], line["steps"], line["verdict"]) for line in lines] == [
        (0, 0, "declined"),
        (1, 0, "declined"),
    ]


def test_a_batch_size_of_nothing_is_refused_at_the_call() -> None:
    with pytest.raises(DataError, match="batch_size is 0"):
        Bench(Store()).loader.batches(DATA, 0, 1, True)


def test_a_round_has_one_line_with_the_means_of_its_steps_metrics(tmp_path: Path) -> None:
    bench = Bench(Store(rounds=[5, 6]), run_dir=tmp_path)
    bench.run()
    bench.log.flush()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["clock"], line["loss"], line["steps"], line["samples"]) for line in lines] == [
        (5, 2.5, 4, 30),
        (6, 6.5, 4, 30),
    ]
    assert {line["verdict"] for line in lines} == {"accepted"}
    assert "text" not in lines[0]
    assert bench.store.ended == [(30, {"loss": 2.5}), (30, {"loss": 6.5})]


def test_the_mean_of_metrics_whose_sum_overflows_is_their_mean() -> None:
    bench = Bench(Store())
    for _ in bench.loader.batches(DATA, 8, 1, True):
        bench.loader.note(8, {"loss": 1.5e308, "huge": 10**400})
    [(_, report)] = bench.store.ended
    assert report == {"loss": pytest.approx(1.5e308)}


def test_the_share_is_in_the_record_once(tmp_path: Path) -> None:
    bench = Bench(Store(rounds=range(2), rank=1, partition="shards:1"), run_dir=tmp_path)
    bench.loader.batches(DATA, 8, 1, True)
    bench.run()
    (line,) = [json.loads(line) for line in (tmp_path / "shares.jsonl").read_text().splitlines()]
    assert (line["rank"], line["examples"], sum(line["labels"].values())) == (1, 30, 30)


def trained(params: Any, data: Any) -> dict[str, float]:
    return {"trained": params["trained"], "mean": float(np.mean(data[0])), "n": len(data[0])}


def test_a_client_measures_its_own_kind_of_test_data_before_and_after_its_training() -> None:
    test = np.arange(1000, 1400), np.arange(400) % 4
    bench = Bench(Store(rounds=[0], rank=2, partition="shards:1", evaluate=True))
    bench.evaluation.add(trained, test)
    seen = bench.run()
    labels = {int(label) for label in LABELS[np.concatenate(seen)]}
    ((_, report),) = bench.store.ended
    assert (report["trained"], report["trained_tuned"]) == (0, 4)
    assert report["mean"] == report["mean_tuned"]
    mine = bench.loader.counterpart(DATA, test)
    assert {int(label) for label in mine[1]} == labels
    assert report["n"] == len(mine[0]) < 400


def test_own_test_data_are_measured_whole_and_without_a_wish_nothing_is() -> None:
    test = np.arange(1000, 1400), np.arange(400) % 4
    bench = Bench(Store(partition="own", evaluate=True))
    bench.evaluation.add(trained, test)
    bench.run()
    assert bench.store.ended[0][1]["n"] == 400
    quiet = Bench(Store(partition="own", evaluate=False))
    quiet.evaluation.add(trained, test)
    quiet.run()
    assert set(quiet.store.ended[0][1]) == {"loss"}


def test_a_measure_that_is_no_number_is_refused_naming_it() -> None:
    bench = Bench(Store(evaluate=True))
    bench.evaluation.add(lambda params, data: {"accuracy": "high"}, DATA)
    with pytest.raises(UsageError, match="accuracy is 'high'"):
        bench.run()


def evaluated(run_dir: Path) -> list[tuple[int, int]]:
    path = run_dir / "evaluations.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(line["rank"], line["clock"]) for line in lines]


def test_the_first_client_evaluates_every_so_many_rounds_for_the_record(tmp_path: Path) -> None:
    bench = Bench(Store(rounds=range(6), eval_every=2), run_dir=tmp_path)
    bench.evaluation.add(trained, DATA)
    bench.run()
    assert evaluated(tmp_path) == [(0, 0), (0, 2), (0, 4)]


def test_it_does_so_too_while_it_waits_for_a_task(tmp_path: Path) -> None:
    store = Store(rounds=[0, 5], eval_every=2)
    bench = Bench(store, run_dir=tmp_path)
    bench.evaluation.add(trained, DATA)
    batches = bench.loader.batches(DATA, 30, 1, True)
    next(batches)
    store.seen, store.waits = 3, 2
    next(batches)
    assert evaluated(tmp_path) == [(0, 0), (0, 3), (0, 5)]


@pytest.mark.parametrize("job", [{"rank": 1, "eval_every": 1}, {"rank": 0, "eval_every": 0}])
def test_nobody_else_does_and_nobody_unless_it_is_wished(tmp_path: Path, job: dict[str, Any]) -> None:
    bench = Bench(Store(rounds=range(3), **job), run_dir=tmp_path)
    bench.evaluation.add(trained, DATA)
    bench.run()
    assert evaluated(tmp_path) == []


def test_examples_by_index_are_divided_among_clients_as_arrays_are() -> None:
    items = list(zip(range(120), LABELS.tolist(), strict=True))
    for partition in ("iid", "shards:2", "own"):
        for rank in range(4):
            store = {"rank": rank, "partition": partition, "rounds": range(2)}
            assert Bench(Store(**store)).run(items) == Bench(Store(**store)).run(DATA)


def test_a_stream_is_dealt_out_to_the_clients_or_is_each_ones_own() -> None:
    stream = dict.fromkeys(range(10)).keys()
    bench = Bench(Store(rank=1, rounds=range(2), local_epochs=2))
    assert bench.run(stream, 2) == [[1, 5]] * 4
    assert [examples for examples, _ in bench.store.ended] == [2, 2]
    own = Bench(Store(rank=1, partition="own"))
    assert own.run(stream, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert own.store.ended[0][0] == 10
    steps = Bench(Store(rank=1, partition="own", local_steps=5))
    assert len(steps.run(stream, 4)) == 5
    assert steps.store.ended[0][0] == 4 + 4 + 2 + 4 + 4


@pytest.mark.parametrize(
    ("data", "partition", "text"),
    [
        ((i for i in range(9)), "own", "a client goes through its data in every round, and a generator can be gone"),
        (dict.fromkeys(range(9)).keys(), "shards:2", "--partition shards:2 divides data by index, and a dict_keys has"),
        ([(i, i) for i in range(9)], "features:0.1", "--partition features distorts arrays: give a tuple of arrays"),
        ([{"x": 1}] * 9, "shards:2", "no field label or labels"),
    ],
)
def test_streams_and_examples_that_cannot_be_divided_are_refused(data: Any, partition: str, text: str) -> None:
    with pytest.raises(DataError, match=text):
        Bench(Store(partition=partition)).loader.batches(data, 2, 1, True)
