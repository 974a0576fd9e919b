"""A simulation's outcome as plain values, for JSON and for the table that people see."""

from __future__ import annotations

import hashlib
from typing import Any

from ps.server.scheduler.rounds.history import distribution
from ps.simulate.simulation import Outcome, Scenario
from ps.xp import HostArray

FORMAT = 1


def report(scenario: Scenario, outcome: Outcome) -> dict[str, Any]:
    """Return everything there is to say of an outcome. Only what is under ``real`` depends on the machine."""
    counters, job = outcome.counters, scenario.job
    took_part = (counters.up > 0) | (counters.down > 0)
    return {
        "format": FORMAT,
        "job": dict(job),
        "model": scenario.model,
        "batch_size": scenario.batch_size,
        "clients": len(counters.up),
        "participants": int(took_part.sum()),
        "rounds": outcome.history[-1]["round"] + 1 if outcome.history else 0,
        "virtual_s": outcome.seconds,
        "accuracy": outcome.evaluations[-1][2] if outcome.evaluations else None,
        "target": _target(scenario, outcome),
        "evaluations": [
            {"round": version, "virtual_s": seconds, "accuracy": accuracy}
            for version, seconds, accuracy in outcome.evaluations
        ],
        "tasks": {
            "trained": counters.trained,
            "accepted": counters.accepted,
            "dropped": counters.dropped,
            "capped": outcome.capped,
            "refused": dict(sorted(counters.refused.items())),
        },
        "polls": counters.polls,
        "bytes_up": int(counters.up.sum()),
        "bytes_down": int(counters.down.sum()),
        "up_per_participant": spread(counters.up[took_part]),
        "down_per_participant": spread(counters.down[took_part]),
        "client_accuracy": spread(outcome.of_clients),
        "history": outcome.history,
        "weights": hashlib.sha256(outcome.weights.tobytes()).hexdigest()[:16],
        "real": {
            "processes": scenario.processes,
            "wall_s": outcome.wall_s,
            "updates_per_s": counters.trained / outcome.wall_s if outcome.wall_s else 0.0,
        },
    }


def spread(values: HostArray) -> dict[str, float]:
    """Return mean, extremes and percentiles of some numbers; nothing for none."""
    return distribution(values.tolist()) if values.size else {}


def _target(scenario: Scenario, outcome: Outcome) -> dict[str, Any] | None:
    if scenario.target is None:
        return None
    for version, seconds, accuracy in outcome.evaluations:
        if accuracy >= scenario.target:
            return {"accuracy": scenario.target, "reached": True, "round": version, "virtual_s": seconds}
    return {"accuracy": scenario.target, "reached": False}
