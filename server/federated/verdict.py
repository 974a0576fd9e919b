"""Verdict: whether a contribution counts, with which weight, by the job's policies. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ps.algorithms import Algorithm
from ps.config.job import JobConfig
from ps.rules import Rule
from ps.server.federated.task import ACCEPTED, Task
from ps.server.federated.usual import Usual

MOST_STEPS = 1 << 40
LEAST_EXAMPLES, MOST_EXAMPLES = 1e-9, 1e15
"""What can be claimed at all: weights are multiplied with deltas in the model's precision, and divided out again."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``verdict`` is accepted or the reason for refusing; the numbers are those of the ledger.

    ``steps`` are those that it is believed; ``capped``: the client claimed more, or more examples.
    """

    verdict: str
    weight: float = 0.0
    scale: float = 0.0
    bound: float = 0.0
    steps: int = 0
    capped: bool = False


def judge(task: Task, version: int, job: JobConfig, algorithm: Algorithm, rule: Rule, usual: Usual) -> Verdict:
    """Return the verdict on a submitted contribution of which all servers have their part.

    ``version`` is the published one; ``usual`` has seen this contribution.
    """
    if task.wrong:
        return Verdict(task.wrong)
    if not credible(task):
        return Verdict("claim")
    norm = math.sqrt(task.norm_squared)
    if math.isinf(norm) or (usual.known and norm > job.max_delta_norm * usual.norm > 0):
        return Verdict("norm")
    staleness = version - min(max(task.version, task.round), version)
    if not algorithm.buffer and job.late == "drop" and task.round < version:
        return Verdict("late")
    if staleness > job.max_staleness:
        return Verdict("stale")
    examples = min(task.examples, job.max_client_weight * usual.claim)
    steps = min(task.steps, max(1, int(job.max_client_weight * usual.steps)))
    weight = rule.weight(examples) if rule.kind == "fold" else 1.0
    scale = algorithm.scale(task.steps, staleness)
    if job.late == "discount" and not algorithm.buffer:
        scale /= math.sqrt(1 + staleness)
    bound = rule.scale(norm, usual.norm) if rule.kind == "fold" and rule.by_norm else 1.0
    capped = rule.kind == "fold" and weight < rule.weight(task.examples)
    return Verdict(ACCEPTED, weight, scale, bound, steps, capped)


def credible(task: Task) -> bool:
    """Whether what a client says of its work can be true at all."""
    return LEAST_EXAMPLES <= task.examples <= MOST_EXAMPLES and 0 < task.steps < MOST_STEPS
