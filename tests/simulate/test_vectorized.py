"""Promises of groups: what many clients get together is, bit for bit, what each gets alone by the plain loop."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ps.algorithms import ALGORITHMS, Algorithm, LocalStep
from ps.models import mlp, softmax
from ps.optim import OPTIMIZERS, apply
from ps.protocol.layout import Layout
from ps.simulate import dense
from ps.simulate.local_work import LocalWork
from ps.simulate.vectorized import TrainingStart, train
from ps.xp import HostArray

MODELS: list[tuple[ModuleType, list[int]]] = [(softmax, [20, 5]), (mlp, [20, 12, 7, 5])]
each_model = pytest.mark.parametrize(("model", "sizes"), MODELS, ids=["softmax", "mlp"])


class World:
    """A model, examples, and the shares of some clients."""

    def __init__(self, model: ModuleType, sizes: list[int], shares: list[int]) -> None:
        rng = np.random.default_rng(0)
        self.model, self.params = model, model.init(sizes, seed=1)
        self.layout = Layout.of(self.params)
        self.anchor = np.concatenate([value.reshape(-1) for value in self.params.values()])
        total = sum(shares)
        self.x = rng.random((total, sizes[0]), np.float32)
        self.y = rng.integers(0, sizes[-1], total)
        self.shares = np.split(rng.permutation(total), np.cumsum(shares)[:-1])

    def views(self, flat: HostArray) -> dict[str, HostArray]:
        return dict(self.layout.views({"float32": flat}))

    def gradients(self, weights: HostArray, rows: HostArray, counts: HostArray, out: HostArray) -> HostArray:
        layers = dense.layers_of(self.layout)
        return dense.loss_and_grad(layers, weights, self.x[rows], self.y[rows], counts, out)

    def together(
        self, local: LocalStep, work: LocalWork, clients: list[int], **more: Any
    ) -> tuple[HostArray, HostArray]:
        clients = sorted(clients, key=lambda c: -work.local_steps(len(self.shares[c])))
        start = TrainingStart(self.anchor, local.optimizer.lr, **more)
        trained = train(local, start, [work.batches(c, 3, self.shares[c]) for c in clients], self.gradients)
        order = np.argsort(clients)
        return trained.weights[order], trained.losses[order]

    def alone(
        self,
        local: LocalStep,
        work: LocalWork,
        client: int,
        control: HostArray | None = None,
        own: HostArray | None = None,
    ) -> tuple[HostArray, float]:
        """The plain loop: one client, the model's own gradients, the optimizer on its flat vector."""
        weights = self.anchor.copy()
        state = local.optimizer.init(weights)
        losses = []
        rows, counts = work.batches(client, 3, self.shares[client])
        for step, (examples, count) in enumerate(zip(rows, counts, strict=True)):
            batch = examples[:count]
            loss, grads = self.model.loss_and_grad(self.views(weights), self.x[batch], self.y[batch])
            gradient = np.concatenate([grads[name].reshape(-1) for name in self.params])
            if local.algorithm.correct is not None:
                local.algorithm.correct(gradient, weights, self.anchor, control, own)
            apply(local.optimizer, weights, gradient, state, lr=local.optimizer.lr, t=step + 1)
            losses.append(loss)
        return weights, float(np.mean(losses))


def local_of(optimizer: str = "sgd:lr=0.5", algorithm: Algorithm | None = None) -> LocalStep:
    return LocalStep(OPTIMIZERS.parse(optimizer).build(), algorithm or Algorithm())


@each_model
@pytest.mark.parametrize("optimizer", ["sgd:lr=0.5", "sgd:lr=0.5,weight_decay=0.01", "adam:lr=0.01", "momentum:lr=0.1"])
def test_a_group_computes_the_bits_of_the_plain_loop(model: ModuleType, sizes: list[int], optimizer: str) -> None:
    world, work = World(model, sizes, [20] * 5), LocalWork(batch_size=10, epochs=2)
    weights, losses = world.together(local_of(optimizer), work, list(range(5)))
    for client in range(5):
        expected, loss = world.alone(local_of(optimizer), work, client)
        np.testing.assert_array_equal(weights[client], expected)
        assert losses[client] == pytest.approx(loss, rel=1e-6)
        assert not np.array_equal(expected, world.anchor)


@each_model
def test_clients_of_different_sizes_train_together(model: ModuleType, sizes: list[int]) -> None:
    world, work = World(model, sizes, [25, 8, 31, 9, 40, 10]), LocalWork(batch_size=8, epochs=2)
    clients = [0, 2, 4, 1, 3, 5]
    weights, losses = world.together(local_of(), work, clients)
    for client in sorted(clients):
        expected, loss = world.alone(local_of(), work, client)
        np.testing.assert_allclose(weights[client], expected, rtol=1e-5, atol=1e-6)
        assert losses[client] == pytest.approx(loss, rel=1e-5)


@each_model
def test_who_else_is_in_the_group_changes_no_bit(model: ModuleType, sizes: list[int]) -> None:
    world, work = World(model, sizes, [25, 8, 31, 9, 40, 10, 64, 17]), LocalWork(batch_size=8, epochs=1)
    all_together, losses = world.together(local_of(), work, list(range(8)))
    for clients in ([0], [3], [6], [7, 2], [1, 4, 5]):
        some, of_some = world.together(local_of(), work, clients)
        np.testing.assert_array_equal(some, all_together[sorted(clients)])
        np.testing.assert_array_equal(of_some, losses[sorted(clients)])


@each_model
def test_corrections_of_the_algorithm_are_the_clients_own(model: ModuleType, sizes: list[int]) -> None:
    world, work = World(model, sizes, [16] * 3), LocalWork(batch_size=8)
    rng = np.random.default_rng(5)
    control = rng.standard_normal(world.anchor.size).astype(np.float32) / 10
    own = rng.standard_normal((3, world.anchor.size)).astype(np.float32) / 10
    scaffold = local_of(algorithm=ALGORITHMS.parse("scaffold").build())
    weights, _ = world.together(scaffold, work, [0, 1, 2], control=control, own=own)
    prox = local_of(algorithm=ALGORITHMS.parse("fedprox:1.0").build())
    near, _ = world.together(prox, work, [0, 1, 2])
    for client in range(3):
        np.testing.assert_array_equal(weights[client], world.alone(scaffold, work, client, control, own[client])[0])
        np.testing.assert_array_equal(near[client], world.alone(prox, work, client)[0])
    assert not np.array_equal(weights, near)


@pytest.mark.parametrize("algorithm", ["fedavg", "fedprox:8.0"])
def test_each_clients_own_gradient_is_clipped_with_its_correction(algorithm: str) -> None:
    world, work = World(softmax, [6, 3], [16] * 3), LocalWork(batch_size=8)
    record = ALGORITHMS.parse(algorithm).build()
    clipped = LocalStep(OPTIMIZERS.parse("sgd:lr=0.5").build(), record, clip_norm=0.01)
    weights, _ = world.together(clipped, work, [0, 1, 2])
    for client in range(3):
        alone, _ = world.together(clipped, work, [client])
        np.testing.assert_array_equal(weights[client], alone[0])
        assert 0 < np.linalg.norm(weights[client] - world.anchor) <= 2 * 0.5 * 0.01 * (1 + 1e-5)


def test_a_group_out_of_order_is_refused() -> None:
    world, work = World(softmax, [4, 2], [8, 16]), LocalWork(batch_size=4)
    batches = [work.batches(c, 0, world.shares[c]) for c in (0, 1)]
    with pytest.raises(ValueError, match="most first"):
        train(local_of(), TrainingStart(world.anchor, 0.1), batches, world.gradients)
