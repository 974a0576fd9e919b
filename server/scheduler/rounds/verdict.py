"""Verdict: whether a contribution counts, with which weight, by the job's policies. Pure."""

from __future__ import annotations

import math
from typing import Literal

from ps.aggregators import Aggregator
from ps.algorithms import Algorithm, effective_steps
from ps.config.federated import most_stale
from ps.config.job import JobConfig
from ps.dataclass import dataclass
from ps.optim import Optimizer
from ps.privacy.grid import bound_of
from ps.protocol.messages.words import Refusal
from ps.server.scheduler.rounds.task import ACCEPTED, STALE, Task
from ps.server.scheduler.rounds.typical import Typical

MOST_STEPS = 1 << 40
LEAST_EXAMPLES, MOST_EXAMPLES = 1e-9, 1e15
"""What can be claimed at all: weights are multiplied with deltas in the model's precision, and divided out again."""
LEAST_STEPS = 0.1
"""Of the median claimed steps, those that every client is believed: a delta may be divided by them."""


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """By what contributions are judged: the job, its algorithm and aggregator, and the clients' optimizer."""

    job: JobConfig
    algorithm: Algorithm
    aggregator: Aggregator
    local: Optimizer

    def staleness(self, task: Task, version: int) -> int:
        """Return how many updates were published since the weights that the client began with."""
        return version - min(max(task.version, task.round), version)

    def steps(self, task: Task, typical: Typical) -> int:
        """Return how many local steps a client is believed.

        FedNova multiplies what all have sent with the weighted mean of steps. One with a share q of the weights that
        sends nothing and is believed m times the others' steps makes a round (1 - q)(1 + (m - 1)q) times as long: by
        an eighth for m = 3, whatever q is.
        """
        most = min(self.job.max_client_weight * typical.steps, self.job.max_influence * typical.many_steps)
        return min(max(task.steps, self._least_steps(typical)), max(1, int(most)))

    def weight(self, task: Task, typical: Typical) -> float:
        """Return the weight of what a client claims, as far as it is believed."""
        examples = min(task.examples, self.job.max_client_weight * typical.claim)
        return self.aggregator.weight(examples) if self.aggregator.kind == "fold" else 1.0

    def scale(self, task: Task, version: int, typical: Typical) -> float:
        """Return what a delta is multiplied with before deltas are combined, whatever its client claims."""
        steps, staleness = max(task.steps, self._least_steps(typical)), self.staleness(task, version)
        scale = self.algorithm.scale(effective_steps(self.local, steps), staleness)
        discounted = self.job.late == "discount" and not self.algorithm.buffer
        return scale / math.sqrt(1 + staleness) if discounted else scale

    def norm(self, task: Task, version: int, typical: Typical) -> float:
        """Return the L2 norm of a delta as it is combined."""
        return math.sqrt(task.norm_squared) * self.scale(task, version, typical)

    def _least_steps(self, typical: Typical) -> int:
        return math.ceil(LEAST_STEPS * typical.steps)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``verdict`` is accepted or the reason for refusing; the numbers are those of the ledger.

    ``steps`` are those that it is believed; ``capped``: the client claimed more examples than it is believed, or its
    weight is less than that because its delta is long.
    """

    verdict: Literal["accepted"] | Refusal
    weight: float = 0.0
    scale: float = 0.0
    bound: float = 0.0
    steps: int = 0
    capped: bool = False


def judge(task: Task, version: int, policy: AdmissionPolicy, typical: Typical) -> Verdict:
    """Return the verdict on a submitted contribution of which all servers have their part.

    ``version`` is the published one; ``typical`` has seen this contribution. What it can do to the model is bounded:
    where contributions are added up, its weight times its norm is at most ``max_influence`` times what three of four
    have. Others that claim more, or send a longer delta, get a smaller weight for it, and so have the same direction.
    """
    job, algorithm, aggregator = policy.job, policy.algorithm, policy.aggregator
    if task.wrong:
        return Verdict(task.wrong)
    if not credible(task):
        return Verdict("claim")
    norm = policy.norm(task, version, typical)
    if math.isinf(norm) or (typical.known and norm > job.max_delta_norm * typical.norm > 0):
        return Verdict("norm")
    if not algorithm.buffer and job.late == "drop" and task.round < version:
        return Verdict("late")
    if policy.staleness(task, version) > most_stale(job, algorithm):
        return Verdict(STALE)
    weight, scale, bound = policy.weight(task, typical), policy.scale(task, version, typical), 1.0
    if aggregator.kind == "fold" and aggregator.by_norm:
        bound = aggregator.scale(norm, typical.norm)
    elif aggregator.kind == "fold" and typical.known and weight * norm > job.max_influence * typical.influence > 0:
        weight = job.max_influence * typical.influence / norm
    capped = aggregator.kind == "fold" and weight < aggregator.weight(task.examples)
    return Verdict(ACCEPTED, weight, scale, bound, policy.steps(task, typical), capped)


def judge_clipped(task: Task, version: int, clip: float) -> Verdict:
    """Return the verdict on a contribution of a job with differential privacy: it counts once, held to the clip.

    It depends on nothing but itself: what others have sent, and what clients claim, decides nothing.
    """
    if task.wrong:
        return Verdict(task.wrong)
    norm = math.sqrt(task.norm_squared)
    if not math.isfinite(norm):
        return Verdict("norm")
    if task.round < version:
        return Verdict("late")
    return Verdict(ACCEPTED, 1.0, 1.0, bound_of(norm, clip), 1)


def credible(task: Task) -> bool:
    """Whether what a client says of its work can be true at all."""
    return LEAST_EXAMPLES <= task.examples <= MOST_EXAMPLES and 0 < task.steps < MOST_STEPS
