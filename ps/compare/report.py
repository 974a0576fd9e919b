"""Report: everything that was found out, as one plain dict. What the table and the page show, and nothing else."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ps.compare.case import CENTRALIZED, DISTRIBUTED, FEDERATED, MODEL_PARALLEL
from ps.compare.comparison import CaseResult, ComparisonPlan, survived
from ps.compare.notes import notes
from ps.compare.record import Record
from ps.config import MODES, JobConfig

FORMAT = 1

DATA = {
    CENTRALIZED: "One process holds every example and sees every label.",
    DISTRIBUTED: "Every worker reads from the whole set: in each epoch another share of it, drawn anew. "
    "Each could see every example, and over the epochs nearly does.",
    MODEL_PARALLEL: "In each pipeline the worker with the first stage reads examples and labels, the one with the last "
    "gets the labels. The others see activations, no example.",
    FEDERATED: "Each client keeps its own examples, the same in every round. Only what it learned leaves it.",
}
MODEL = {
    CENTRALIZED: "The one process has all of it, and its optimizer's state.",
    DISTRIBUTED: "Every worker has all of it. The servers share out one more, and the optimizer's state.",
    MODEL_PARALLEL: "No worker has all of it, each has the layers of its stages. The servers share out a whole "
    "one, and the optimizer's state.",
    FEDERATED: "Every client has all of it while it trains. The servers have the common one.",
}


def build(
    plan: ComparisonPlan, machine: Mapping[str, Any], results: Sequence[CaseResult], dropouts: Sequence[CaseResult]
) -> dict[str, Any]:
    """Return the report. Values that are not known are None."""
    left_out = [result for result in results if result.case.impossible]
    results = [result for result in results if not result.case.impossible]
    dropouts = [result for result in dropouts if not result.case.impossible]
    runs = [_run(result) for result in results]
    metric = next((run["metric"] for run in runs if run["metric"]), "accuracy")
    return {
        "format": FORMAT,
        "script": shlex.join(plan.script.words),
        "args": list(plan.args),
        "metric": metric,
        "machine": dict(machine),
        "seed": plan.seed,
        "timeout_s": plan.timeout,
        "drop": plan.drop,
        "runs": runs,
        "dropouts": [_dropout(result, before) for result, before in _pairs(dropouts, results)],
        "notes": [
            *notes(runs, metric, plan.drop is not None),
            *(f"{result.case.name} was not run: {result.case.impossible}." for result in left_out),
        ],
    }


def _pairs(dropouts: Sequence[CaseResult], results: Sequence[CaseResult]) -> list[tuple[CaseResult, CaseResult]]:
    return list(zip(dropouts, results, strict=True)) if dropouts else []


def _run(result: CaseResult) -> dict[str, Any]:
    case, outcome, record = result.case, result.outcome, result.record
    return {
        "name": case.name,
        "title": case.title,
        "paradigm": case.paradigm,
        "participants": case.participants,
        "command": result.command,
        "ended": outcome.ended,
        "status": outcome.status,
        "why": outcome.why,
        "tail": list(outcome.tail) if outcome.ended != "finished" else [],
        "wall_s": outcome.wall_s,
        "train_s": round(record.train_s, 2),
        "metric": record.metric,
        "final": record.points[-1].value if record.points else None,
        "update": _update(result),
        "examples": sum(one.examples for one in record.participants),
        "bytes_up": sum(one.bytes_up for one in record.participants),
        "bytes_down": sum(one.bytes_down for one in record.participants),
        "bytes_activations": sum(one.bytes_activations for one in record.participants),
        "bytes_gradients": sum(one.bytes_gradients for one in record.participants),
        "curve": [dataclasses.asdict(point) for point in record.points],
        "per_participant": [dataclasses.asdict(one) for one in record.participants],
        "data": DATA[case.paradigm],
        "model": MODEL[case.paradigm],
        "parts": [{**dataclasses.asdict(part), "layers": list(part.layers)} for part in record.parts]
        if case.paradigm == MODEL_PARALLEL
        else [],
        "partition": case.job.get("partition"),
        "shares": [{"rank": rank, "labels": dict(labels)} for rank, labels in record.shares],
        "refused": dict(record.refused),
        "spread": dict(record.spread),
    }


def _update(result: CaseResult) -> dict[str, Any]:
    """Return what one update of the common model is made of, and how many there were."""
    case, record = result.case, result.record
    steps = sum(one.records for one in record.participants)
    examples = sum(one.examples for one in record.participants)
    if case.paradigm == FEDERATED:
        count = record.rounds or record.clock
    else:
        count = record.clock if MODES[case.job.get("mode", "sync")].lockstep else steps
    return {
        "count": count,
        "contributions": round(steps / count / JobConfig(**case.job).places, 1) if count else None,
        "examples": round(examples / count, 1) if count else None,
    }


def _dropout(result: CaseResult, before: CaseResult) -> dict[str, Any]:
    case, outcome, record = result.case, result.outcome, result.record
    finished, ran = survived(result), outcome.ended != "not run"
    return {
        "name": case.name,
        "of": before.case.name,
        "title": case.title,
        "paradigm": case.paradigm,
        "participants": case.participants,
        "command": result.command,
        "ended": outcome.ended,
        "status": outcome.status,
        "why": outcome.why,
        "killed": list(outcome.killed),
        "killed_clock": outcome.killed_clock if outcome.killed else None,
        "of_clock": before.record.clock if outcome.killed else None,
        "finished": finished,
        "tail": list(outcome.tail) if not finished else [],
        "final": record.points[-1].value if record.points and finished else None,
        "without": before.record.points[-1].value if before.record.points and ran else None,
        "wall_s": outcome.wall_s if ran else None,
        "wall_without_s": before.outcome.wall_s if ran else None,
        "pause_s": _pause(record, outcome.killed_at) if outcome.killed and finished else None,
    }


def _pause(record: Record, since: float) -> float:
    return round(record.longest_gap(since), 2)
