"""Picture: where the rounds stand, as plain values for ``psctl status``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ps.config.job import JobConfig
from ps.server.scheduler.rounds.assignments import Assignments
from ps.server.scheduler.rounds.attempt import Attempt
from ps.server.scheduler.rounds.contributions import Contributions
from ps.server.scheduler.rounds.deadlines import Deadlines
from ps.server.scheduler.rounds.durability import Durability
from ps.server.scheduler.rounds.history import SHOWN

_UNTOLD: Mapping[str, Any] = {
    **dict.fromkeys(("accepted", "active", "waiting", "spare", "capped", "fruitless"), 0),
    "refused": {},
    "slow": [],
    "deadline_s": None,
}
"""What is shown instead of what would tell who was drawn for a round."""


def picture(
    job: JobConfig,
    assignments: Assignments,
    contributions: Contributions,
    deadlines: Deadlines,
    attempt: Attempt,
    durability: Durability,
    history: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what is shown of the round under way, and what was counted so far."""
    tasks, ledger = contributions.tasks, contributions.ledger
    hidden = _UNTOLD if contributions.privacy.sampled else {}
    return {
        "algorithm": job.algorithm,
        "secure": job.secure,
        "round": ledger.version,
        "rounds": job.rounds,
        "attempt": attempt.failed + 1,
        "goal": assignments.goal,
        "accepted": ledger.counted,
        "active": assignments.active,
        "waiting": assignments.waiting,
        "behind": ledger.behind(),
        "deadline_s": round(deadlines.deadline(), 3),
        "refused": dict(tasks.refused),
        "spare": tasks.spare,
        "capped": contributions.admission.capped,
        "durable": durability.durable,
        "slow": deadlines.slow,
        "fruitless": tasks.fruitless.clients,
        **hidden,
        **contributions.privacy.status(),
        "history": list(history[-SHOWN:]),
    }
