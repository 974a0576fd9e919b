"""A pipeline whose waves overlap, with servers that add up, in one process: the runners and stashes of each worker, and
bad luck in when what comes, over channels that hold little."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from typing import Any

import numpy as np

from ps.pipeline import Pipeline, microbatch
from ps.pipeline.runner import StepPlan, Transfer
from ps.pipeline.wave_runner import WaveRunner
from ps.pipeline.weight_stash import WeightStash
from ps.pipeline.worker_stages import WorkerStages

RATE = np.float32(0.1)


class WaveWorker:
    """One worker: its weights are those of the latest update that it was told of."""

    def __init__(
        self, pipe: Pipeline, worker: int, size: int, waves: int, weights: dict[str, Any], frozen: int
    ) -> None:
        self.own = WorkerStages(pipe, pipe.cut, pipe.schedule, worker, size, seed=0, replica=0)
        self.trained = [name for name in weights if int(name.split(".")[0]) >= frozen]
        self.own.know(weights, self.trained)
        self.weights = {name: value.copy() for name, value in weights.items()}
        self.stash = WeightStash(waves)
        self.stash.begin(0)
        self.waves = WaveRunner()
        self.begun = self.pushed = self.version = 0
        self.parked: dict[int, list[Transfer]] = defaultdict(list)
        self.staleness: list[int] = []

    def unused(self, kind: str, stage: int) -> int:
        waiting = sum((t.kind, t.stage) == (kind, stage) for parked in self.parked.values() for t in parked)
        return waiting + self.waves.unused(kind, stage)

    def receive(self, wave: int, transfer: Transfer) -> None:
        if wave in self.waves:
            self.waves.receive(wave, transfer)
        else:
            self.parked[wave].append(transfer)

    def may_begin(self, wave: int) -> bool:
        return self.stash.version(wave) <= self.version

    def begin(self, plan: StepPlan, batch: Any) -> list[Transfer]:
        wave = plan.step
        self.keep()
        self.staleness.append(wave - self.stash.version(wave))
        params = {**self.weights, **self.stash.of(wave)}
        runner = self.own.runner(plan, params, dict.fromkeys(self.trained))
        self.waves.begin(wave, runner)
        self.begun += 1
        for transfer in self.parked.pop(wave, []):
            runner.receive(transfer)
        return runner.feed(*batch) if batch is not None else []

    def keep(self) -> None:
        self.stash.keep(self.version, {name: self.weights[name] for name in self.trained})

    def push(self) -> dict[str, Any] | None:
        """Give the gradients of the oldest wave, if it is done and the one before is in the weights."""
        if self.pushed > self.version or not self.waves.is_done:
            return None
        wave, runner = self.waves.oldest
        self.waves.end(wave)
        self.keep()
        self.pushed += 1
        return runner.gradients()


def train(
    pipe: Pipeline, batches: list[Any], microbatches: int, waves: int, window: int, seed: int, frozen: int = 0
) -> tuple[dict[str, Any], list[int]]:
    """Train on some batches; return the weights, and how stale each wave was on each worker."""
    luck = random.Random(seed)
    first = pipe.chain.init(3)
    size = pipe.schedule.workers(len(pipe.cut.stages))
    workers = [WaveWorker(pipe, worker, size, waves, first, frozen) for worker in range(size)]
    weights = {name: value.copy() for name, value in first.items()}
    given: dict[int, dict[str, Any]] = defaultdict(dict)
    count = [0] * len(batches)
    channels: dict[tuple[str, int], deque[tuple[int, Transfer]]] = defaultdict(deque)

    def send(wave: int, transfers: list[Transfer]) -> None:
        for transfer in transfers:
            channels[(transfer.kind, transfer.stage)].append((wave, transfer))

    def begin(worker: int) -> None:
        own, wave = workers[worker], workers[worker].begun
        x, y = batches[wave]
        parts = microbatch.sizes(len(x), microbatches)
        cut = [microbatch.cut(each, parts, 0, pipe.arrays) for each in (x, y)]
        send(wave, own.begin(StepPlan(wave, microbatches, len(x)), None if worker else cut))

    def push(worker: int) -> None:
        wave = workers[worker].pushed
        gradients = workers[worker].push()
        assert gradients is not None
        given[wave] |= gradients
        count[wave] += 1
        if count[wave] == size:
            for name, gradient in given[wave].items():
                weights[name] = weights[name] - RATE * gradient
            for each in workers:
                landing.append((each, {name: value.copy() for name, value in weights.items()}))

    def land(index: int) -> None:
        own, values = landing.pop(index)
        for name, value in values.items():
            own.weights[name][...] = value
        own.version += 1

    landing: list[tuple[WaveWorker, dict[str, Any]]] = []
    while any(own.version < len(batches) for own in workers):
        able: list[Any] = []
        for worker, own in enumerate(workers):
            if own.begun < len(batches) and own.may_begin(own.begun):
                able.append((begin, worker))
            if own.waves.next is not None:
                able.append((act, own, send))
            if own.pushed == own.version and own.waves.is_done:
                able.append((push, worker))
        able += [(land, i) for i, (own, _) in enumerate(landing) if all(o is not own for o, _ in landing[:i])]
        for key, channel in channels.items():
            if channel and workers[key[1] % size].unused(*key) < window:
                able.append((deliver, workers[key[1] % size], channel))
        assert able, [(own.begun, own.pushed, own.version, own.waves.waiting_for) for own in workers]
        what, *args = luck.choice(able)
        what(*args)
    assert not any(channels.values())
    return weights, [each for own in workers for each in own.staleness]


def act(own: WaveWorker, send: Any) -> None:
    found = own.waves.next
    assert found is not None
    send(found[0], found[1].run())


def deliver(own: WaveWorker, channel: deque[tuple[int, Transfer]]) -> None:
    own.receive(*channel.popleft())
