"""The rounds of a federated job in words: for the progress line, the status and the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Status = Mapping[str, Any]


def progress(federated: Status) -> str:
    """Return where a job is: which round, how much of it is there, and what was refused so far."""
    return " · ".join([which(federated), accepted(federated), *counts(federated)])


def which(federated: Status) -> str:
    """Return the round under way, counted from 1, or that all are done."""
    done, planned = federated.get("round") or 0, federated.get("rounds") or 0
    return f"round {done + 1} of {planned}" if done < planned else f"{done} of {planned} rounds"


def accepted(federated: Status) -> str:
    """Return how many contributions of this round count already, and how many close it."""
    return f"{federated.get('accepted') or 0} of {federated.get('goal') or 0} accepted"


def counts(federated: Status) -> list[str]:
    """Return what was refused by reason, and what was capped and abandoned, as far as anything was."""
    reasons: Status = federated.get("refused") or {}
    found = []
    if reasons:
        found.append("refused " + ", ".join(f"{count} × {why}" for why, count in sorted(reasons.items())))
    for key in ("capped", "abandoned"):
        if federated.get(key):
            found.append(f"{federated[key]} {key}")
    return found


def ending(outcome: Status) -> str:
    """Return what a run's rounds came to, from the outcome that a RoundLog has."""
    done, planned = outcome.get("round") or 0, outcome.get("rounds")
    of = f" of {planned}" if planned is not None else ""
    spare = [f"{outcome['spare']} spare"] if outcome.get("spare") else []
    accepted = f"{outcome.get('total_accepted', 0)} contributions accepted"
    if (outcome.get("privacy") or {}).get("sampled"):
        accepted = "who was in them is told to nobody"
    return " · ".join([f"{done}{of} rounds", accepted, *spare, *counts(outcome)])
