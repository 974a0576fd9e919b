"""Promises of fleets: what they send is, bit for bit, what clients of a real job make of the same task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.data.shares import view
from ps.models import cnn, mlp, softmax
from ps.partition import partition
from ps.protocol.layout import Layout
from ps.simulate.local_work import LocalWork
from ps.simulate.model import fresh
from ps.simulate.plan import TrainingPlan
from ps.simulate.task import TrainingResult, TrainingTask
from ps.simulate.trainer import Trainer
from ps.worker.federated.delta_encoder import DeltaEncoder
from ps.worker.federated.training import Training
from ps.xp import HostArray
from support.federation import CLASSES, FEATURES, examples, first_weights, plan_of

CLIENTS = 8
MODELS: dict[str, Any] = {"softmax": softmax, "mlp": mlp}


def results_of(trainer: Trainer, tasks: list[TrainingTask], weights: HostArray) -> list[TrainingResult]:
    return [result for results in trainer.train(tasks, weights) for result in results]


class RealClient:
    """The parts that a client of a real job is made of, without its sockets."""

    def __init__(self, plan: TrainingPlan, data: dict[str, HostArray], client: int) -> None:
        self.plan, self.client = plan, client
        self.training, self.encoder = Training(plan.job), DeltaEncoder(plan.job, client)
        division = partition(plan.job.partition, data["y_train"], plan.job.workers, plan.job.seed)
        self.x, self.y = view((data["x_train"], data["y_train"]), division, client)
        self.chunks = plan.layout.chunks(plan.job.servers, plan.job.chunk_bytes)

    def take_part(self, round: int, weights: HostArray) -> dict[int, HostArray]:
        flat = self.plan.layout.flat(weights.copy())
        params = self.plan.layout.of_kind("trainable").views(flat)
        self.training.begin(flat, round)
        for rows, count in zip(*self.plan.work.batches(self.client, round, np.arange(len(self.y))), strict=True):
            batch = rows[:count]
            _, grads = MODELS[self.plan.model].loss_and_grad(params, self.x[batch], self.y[batch])
            self.training.step({"float32": np.concatenate([grads[name].reshape(-1) for name in params])})
        return self.encoder.pack(self.training.delta(), self.chunks, round)

    def settle(self, accepted: bool, round: int, frames: dict[int, HostArray]) -> None:
        self.training.settle(accepted)
        if not accepted:
            self.encoder.give_back(frames, self.chunks, round)


@pytest.mark.parametrize("model", ["softmax", "mlp"])
@pytest.mark.parametrize(
    "job",
    [
        {"schedule": "step:every=1,gamma=0.5"},
        {"algorithm": "fedprox:0.5", "optimizer": "adam:lr=0.01", "servers": 2},
        {"algorithm": "scaffold", "clip_value": 0.05},
        {"algorithm": "diloco"},
        {"compress": "topk:0.1", "local_optimizer": "momentum:lr=0.1"},
        {"compress": "int8", "clip_norm": 0.3, "partition": "features:1.0"},
        {"compress": "powersgd:1", "algorithm": "fednova"},
    ],
    ids=lambda job: job.get("algorithm", job.get("compress", "fedavg")),
)
def test_frames_are_those_of_a_real_client_round_after_round(model: str, job: dict[str, Any]) -> None:
    plan, data = plan_of(model, LocalWork(5, epochs=2), workers=CLIENTS, **job), examples(192)
    trainer = Trainer(plan, data)
    real = [RealClient(plan, data, client) for client in range(CLIENTS)]
    weights, rng = first_weights(plan), np.random.default_rng(0)
    for round in range(3):
        tasks = [TrainingTask(client, 100 * round + client, round, round) for client in range(CLIENTS)]
        results = {result.ticket: result for result in results_of(trainer, tasks, weights)}
        for task in tasks:
            expected = real[task.client].take_part(round, weights)
            assert len(expected) == len(results[task.ticket].frames)
            for chunk, frame in expected.items():
                found = results[task.ticket].frames[chunk]
                np.testing.assert_array_equal(found, xp.to_host(frame).view(np.uint8))
            accepted = (task.client + round) % 3 > 0
            trainer.settle(task.ticket, accepted)
            real[task.client].settle(accepted, round, expected)
        for vector in plan.layout.flat(weights).values():
            vector += rng.standard_normal(vector.size).astype(np.float32) / 100


def test_a_result_says_what_was_done_and_how_good_it_was() -> None:
    plan, data = plan_of(workers=CLIENTS, partition="dirichlet:1.0"), examples()
    trainer, weights = Trainer(plan, data), first_weights(plan)
    division = partition("dirichlet:1.0", data["y_train"], CLIENTS, 0)
    tasks = [TrainingTask(client, client, 0, 0, evaluate=client == 2) for client in range(CLIENTS)]
    for result in results_of(trainer, tasks, weights):
        size = len(division.share(result.ticket))
        assert (result.examples, result.steps) == (size, -(-size // 4))
        assert 0 < result.report["loss"] < 5
        assert ("accuracy" in result.report) == ("accuracy_tuned" in result.report) == (result.ticket == 2)
    assert len(results_of(trainer, tasks, weights)) == CLIENTS


def test_models_without_a_stacked_form_train_one_by_one() -> None:
    data = examples(80)
    images = {
        name: np.random.default_rng(1).random((len(x), 4, 4), np.float32) for name, x in data.items() if "x" in name
    }
    data = {**data, **images}
    first = fresh("cnn", (4, 4), CLASSES)
    small = plan_of(workers=2)
    plan = TrainingPlan(small.job, Layout.of(first), "cnn", LocalWork(40, steps=2))
    weights = np.zeros(plan.layout.nbytes, np.uint8)
    for name, view_of in plan.layout.views(plan.layout.flat(weights)).items():
        view_of[...] = first[name]
    division = partition("iid", data["y_train"], 2, 0)
    results: list[TrainingResult] = results_of(
        Trainer(plan, data), [TrainingTask(0, 0, 0, 0), TrainingTask(1, 1, 0, 0)], weights
    )
    for result in results:
        share, params = division.share(result.ticket), {name: value.copy() for name, value in first.items()}
        for rows, count in zip(*plan.work.batches(result.ticket, 0, share), strict=True):
            _, grads = cnn.loss_and_grad(params, data["x_train"][rows[:count]], data["y_train"][rows[:count]])
            for name, value in params.items():
                value -= np.float32(0.1) * grads[name]
        flat = plan.layout.flat(np.concatenate(result.frames))["float32"]
        found = plan.layout.views({"float32": flat})
        for name, value in params.items():
            np.testing.assert_allclose(found[name], value - first[name], rtol=1e-4, atol=1e-6)


def test_features_are_flattened_for_models_that_take_them_flat() -> None:
    plan, data = plan_of(workers=2), examples(80)
    shaped = {name: x.reshape(len(x), 3, 4) if name.startswith("x") else x for name, x in data.items()}
    tasks, weights = [TrainingTask(0, 0, 0, 0), TrainingTask(1, 1, 0, 0)], first_weights(plan)
    flat, square = (results_of(Trainer(plan, each), tasks, weights) for each in (data, shaped))
    for one, other in zip(flat, square, strict=True):
        assert [frame.tobytes() for frame in one.frames] == [frame.tobytes() for frame in other.frames]
    assert data["x_train"].shape[1] == FEATURES
