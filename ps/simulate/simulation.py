"""A whole simulation: from examples, settings and traces to how the rounds went and how good the model became."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

import numpy as np

from ps.dataclass import dataclass
from ps.memory import check_fits
from ps.protocol.layout import Layout
from ps.simulate.counters import Counters
from ps.simulate.division import divide
from ps.simulate.engine import Engine
from ps.simulate.evaluator import Evaluator, FitEvaluator
from ps.simulate.in_process_cluster import FOR_EVER, InProcessCluster
from ps.simulate.local_work import LocalWork
from ps.simulate.model import fresh, has_fit, model_named
from ps.simulate.plan import TrainingPlan
from ps.simulate.pool import Pool
from ps.simulate.traces import Drawn, Traces
from ps.worker.federated.fit import check
from ps.xp import HostArray

_UNHINDERED = Drawn()


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated. ``job`` holds the job's explicit settings: ``workers`` clients, ``mode`` federated.

    ``data``: as ``ps.simulate.examples.load`` returns it. ``target``: the accuracy at which the simulation ends.
    """

    job: Mapping[str, Any]
    data: Mapping[str, HostArray]
    model: str = "softmax"
    hidden: tuple[int, ...] = (200,)
    batch_size: int = 10
    traces: Traces = _UNHINDERED
    processes: int = 2
    eval_every: int = 1
    target: float | None = None
    heartbeat: float = 10.0


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a simulation is: rounds published, virtual seconds, updates trained; accuracy if it was looked at.

    ``closed`` are the scheduler's entries of the rounds that were published since the moment before.
    """

    version: int
    seconds: float
    trained: int
    accuracy: float | None
    closed: tuple[Mapping[str, Any], ...] = ()


@dataclass(slots=True)
class Outcome:
    """What came of a simulation. Only ``wall_s`` depends on the machine.

    ``evaluations`` are (rounds, virtual seconds, accuracy); ``history`` is the scheduler's, one entry for a round;
    ``capped`` counts contributions that weighed less than their clients' examples; ``of_clients`` is every client's
    accuracy of the last weights, on test examples like its own.
    """

    counters: Counters
    weights: HostArray
    history: list[dict[str, Any]]
    seconds: float = 0.0
    capped: int = 0
    wall_s: float = 0.0
    evaluations: list[tuple[int, float, float]] = field(default_factory=list)
    of_clients: HostArray = field(default_factory=lambda: np.empty(0))

    def reached(self, target: float | None) -> bool:
        """Whether an evaluation was at least as good as the target, if there is one."""
        return target is not None and any(accuracy >= target for _, _, accuracy in self.evaluations)


def _first(scenario: Scenario) -> dict[str, HostArray]:
    """Return the weights that the first round begins with."""
    data, seed = scenario.data, int(scenario.job.get("seed", 0))
    if has_fit(scenario.model):
        return fresh(scenario.model, (), 0, seed=seed)
    classes = int(max(data["y_train"].max(), data["y_test"].max())) + 1
    return fresh(scenario.model, data["x_train"].shape[1:], classes, scenario.hidden, seed)


def simulate(scenario: Scenario, watch: Callable[[Moment], None] = lambda moment: None) -> Outcome:
    """Simulate a job to its last round or to the target; ``watch`` is told of every published version.

    Raises what engine, pool and cluster raise, ConfigError for settings and DataError for data that do not fit.
    """
    data = scenario.data
    params = _first(scenario)
    layout = Layout.of(params)
    values = np.zeros(layout.nbytes, np.uint8)
    tensors = layout.views(layout.flat(values))
    for name, value in params.items():
        tensors[name][...] = value
    # Virtual hours may pass in which no client is there: that is no reason to give the job up.
    cluster = InProcessCluster({**scenario.job, "start_timeout": FOR_EVER, "idle_timeout": FOR_EVER}, layout, values)
    job = cluster.job
    work = LocalWork(scenario.batch_size, job.local_epochs, job.local_steps or 0, job.seed)
    evaluator: Evaluator | FitEvaluator
    if has_fit(scenario.model):
        check(job)
        sizes, evaluator = data["sizes"].tolist(), FitEvaluator(model_named(scenario.model).evaluate)
    else:
        division = divide(data, job)
        sizes, evaluator = division.sizes.tolist(), Evaluator(model_named(scenario.model), data, division)
    largest = max([1, *sizes])
    steps = work.local_steps(largest)
    check_fits(16 * steps * work.width(largest), f"{steps:,} local steps of a client (--local-epochs, --local-steps)")
    outcome = Outcome(Counters.of(job.workers), values, [])

    def views(weights: HostArray) -> dict[str, HostArray]:
        return dict(layout.views({"float32": cluster.layout.flat(weights)["float32"]}))

    told = 0

    def published(version: int, now: float, weights: HostArray) -> bool:
        accuracy = None
        outcome.weights, outcome.seconds = weights, now
        if version == job.rounds or (scenario.eval_every and version % scenario.eval_every == 0):
            accuracy = evaluator.accuracy(views(weights))
            outcome.evaluations.append((version, now, accuracy))
        nonlocal told
        closed = tuple(entry for entry in cluster.history[-(version - told or 1) :] if entry["round"] >= told)
        told = version
        outcome.history += closed  # the scheduler forgets old ones
        watch(Moment(version, now, engine.counters.trained, accuracy, closed))
        return outcome.reached(scenario.target)

    plan = TrainingPlan(job, cluster.layout, scenario.model, work)
    began = time.monotonic()
    with Pool(plan, data, scenario.processes) as pool:
        engine = Engine(cluster, pool, scenario.traces, work, sizes, published, scenario.heartbeat)
        engine.run()
    outcome.counters = engine.counters
    outcome.capped = cluster.status().get("capped", 0)
    outcome.of_clients = np.array(list(evaluator.of_clients(views(outcome.weights))))
    outcome.wall_s = time.monotonic() - began
    return outcome
