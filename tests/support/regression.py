"""Rounds without processes: the records carried out as a server and its clients would, on linear regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ps.algorithms import ALGORITHMS, Algorithm, effective_steps
from ps.optim import OPTIMIZERS, apply

SIZE = 5
LOCAL = "sgd:lr=0.05"
LR = 0.05


@dataclass(frozen=True)
class Client:
    """Examples of one client's own distribution, and how many local steps it does."""

    x: np.ndarray
    y: np.ndarray
    steps: int

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """Return the gradient of half the mean squared error."""
        return self.x.T @ (self.x @ w - self.y) / len(self.y)


def clients(examples: Sequence[int] = (20, 7, 12, 31), steps: Sequence[int] = (3, 1, 5, 2)) -> list[Client]:
    """Return clients of different sizes, whose own optima are far apart."""
    rng = np.random.default_rng(0)
    found = []
    for count, number in zip(examples, steps, strict=True):
        x = rng.standard_normal((count, SIZE)) * rng.uniform(0.5, 2, SIZE)
        found.append(Client(x, x @ (3 * rng.standard_normal(SIZE)) + 0.1 * rng.standard_normal(count), number))
    return found


def start() -> np.ndarray:
    """Return the first weights."""
    return np.linspace(-1, 1, SIZE)


class Federation:
    """Clients and a server in one process, which do what a record says."""

    def __init__(self, text: str, members: Sequence[Client], local: str = LOCAL, server: str = "") -> None:
        self.algorithm: Algorithm = ALGORITHMS.parse(text).build()
        self.members = members
        self.local = OPTIMIZERS.parse(self.algorithm.local or local).build()
        self.server = OPTIMIZERS.parse(server or self.algorithm.server).build()
        self.weights = start()
        self.history = [self.weights.copy()]
        self.state = self.server.init(self.weights)
        self.kept = [(self.local.init(self.weights), 0) for _ in members]
        self.control = np.zeros(SIZE)
        self.own = [np.zeros(SIZE) for _ in members]

    def task(self, index: int, anchor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a client's delta from ``anchor``, and what its control variate has changed by."""
        algorithm, member = self.algorithm, self.members[index]
        weights = anchor.copy()
        state, done = self.kept[index] if algorithm.keeps_optimizer else (self.local.init(weights), 0)
        control, own = (self.control, self.own[index]) if algorithm.control else (None, None)
        for t in range(done + 1, done + member.steps + 1):
            gradient = member.gradient(weights)
            if algorithm.correct:
                algorithm.correct(gradient, weights, anchor, control, own)
            apply(self.local, weights, gradient, state, lr=self.local.lr, t=t)
        self.kept[index] = state, done + member.steps
        change = np.zeros(SIZE)
        if algorithm.renew:
            steps = effective_steps(self.local, member.steps)
            new = algorithm.renew(self.own[index], self.control, anchor, weights, steps, self.local.lr)
            change, self.own[index] = new - self.own[index], new
        return weights - anchor, change

    def update(self, contributions: Sequence[tuple[int, np.ndarray, np.ndarray, int]]) -> None:
        """Apply contributions: client, delta, change of the control variate, staleness."""
        algorithm = self.algorithm
        steps = [effective_steps(self.local, self.members[index].steps) for index, *_ in contributions]
        weighted = algorithm.aggregator == "weighted"
        weights = [float(len(self.members[index].y)) if weighted else 1.0 for index, *_ in contributions]
        mean = np.zeros(SIZE)
        for weight, count, (_, delta, _, staleness) in zip(weights, steps, contributions, strict=True):
            mean += weight / sum(weights) * algorithm.scale(count, staleness) * delta
        mean *= algorithm.factor(weights, steps)
        changes = [change for _, _, change, _ in contributions]
        self.control += len(changes) / len(self.members) * np.mean(changes, axis=0)
        t = len(self.history)
        apply(self.server, self.weights, -mean, self.state, lr=self.server.lr, t=t)
        self.history.append(self.weights.copy())

    def round(self, members: Sequence[int] | None = None) -> np.ndarray:
        """Do one round and return the new weights."""
        chosen = range(len(self.members)) if members is None else members
        self.update([(index, *self.task(index, self.history[-1]), 0) for index in chosen])
        return self.history[-1]


def train(text: str, rounds: int, **options: str) -> list[np.ndarray]:
    """Return the weights after each round with everybody."""
    federation = Federation(text, clients(), **options)
    return [federation.round() for _ in range(rounds)]


def descend(member: Client, w: np.ndarray) -> np.ndarray:
    """Return what a client's plain gradient descent makes of ``w``."""
    for _ in range(member.steps):
        w = w - LR * member.gradient(w)
    return w


def mean_delta(members: Sequence[Client], w: np.ndarray) -> np.ndarray:
    """Return FedAvg's mean of deltas, by examples."""
    total = sum(len(member.y) for member in members)
    return np.sum([len(member.y) / total * (descend(member, w) - w) for member in members], axis=0)


def check(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    """Fail unless weights agree to rounding after every round, and have moved in each."""
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
    assert all(np.abs(np.diff([start(), *found], axis=0)).max(axis=1) > 1e-4)


def optimum(members: Sequence[Client]) -> np.ndarray:
    """Return the weights at which the mean of the clients' losses, by examples, is least."""
    x = np.concatenate([member.x for member in members])
    y = np.concatenate([member.y for member in members])
    return np.linalg.lstsq(x, y)[0]
